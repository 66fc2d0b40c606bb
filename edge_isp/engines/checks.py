"""Spot checks while frames stream: whether the NPU's outputs still are the CPU's, at a price that nobody notices.

All outputs are compared on the first, second, fourth, eighth frame and so on, which costs an inference on the CPU
each time. A little more often than once a second, parts of two frames in succession are compared: one where the frames
differ most, and one that moves over the frame. A part of the input with the receptive field around it gives the very
values of the whole frame (see `tiled`), so that a small engine on one core is enough. Where a network has no such part,
the whole frame is compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import Engine, TensorInfo
from edge_isp.engines.parity import DisagreementError, ParityLimits, compare, difference_lsb, require_parity
from edge_isp.engines.tiled import Size

# What is wrong must not last for a second, so that checks come a little more often.
_INTERVAL_S = 0.8
# The share of one core that checks may take: on a slow one they come more rarely, and are of one part at a time.
_SHARE = 0.01
# Rows and columns that count of a part that is compared.
_CENTRE = 16
# How much more than over a whole frame the outputs of a part may differ: it is small, and where the frame changes most.
_PART_FACTOR = 2.0
# Outputs that fit the frame before the current one as this share of the way from one to the other, and explain this
# share of the squared differences from the CPU, so often in succession, are stale.
_STALE_SHARE, _STALE_EXPLAINED, _STALE_FRAMES = 0.5, 0.4, 3
# In fewer values than these, differences are correlated by chance.
_STALE_VALUES = 500
# Differences this many times those of the check at the start make it worth while to look for that.
_SUSPICIOUS = 1.3


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the input, and the part of it whose outputs are those of the whole frame.

    Attributes:
        rows: of the input.
        columns: of the input.
        inner_rows: that count, of the input.
        inner_columns: that count, of the input.
    """

    rows: slice
    columns: slice
    inner_rows: slice
    inner_columns: slice

    def cut(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """The part of an input.

        Args:
            tensor: the whole input.
        """
        return np.ascontiguousarray(tensor[:, self.rows, self.columns])

    def of_whole(self, tensor: NDArray[Any], height: int) -> NDArray[Any]:
        """What counts of an output of the whole frame.

        Args:
            tensor: the output.
            height: rows of the whole input.
        """
        scale = tensor.shape[1] // height
        return tensor[:, _scaled(self.inner_rows, scale, 0), _scaled(self.inner_columns, scale, 0)]

    def of_part(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """What counts of an output of the part.

        Args:
            tensor: the output of the part.
        """
        scale = tensor.shape[1] // (self.rows.stop - self.rows.start)
        return tensor[
            :,
            _scaled(self.inner_rows, scale, self.rows.start),
            _scaled(self.inner_columns, scale, self.columns.start),
        ]


def part_size(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], radius: int | None, multiple: int) -> Size:
    """Rows and columns of the part of the input that is compared; those of the whole where there is no smaller one.

    Args:
        inputs: of the model.
        outputs: of the model.
        radius: of the receptive field, in rows and columns of the input; None where it is the whole input.
        multiple: what a part's position and size are a multiple of.
    """
    height, width = inputs[0].shape[1:3] if len(inputs[0].shape) == 4 else (1, 1)
    if radius is None or len(inputs) != 1 or not all(_follows(output, height, width) for output in outputs):
        return height, width
    side = -(-(2 * radius + _CENTRE) // multiple) * multiple
    return min(side, height), min(side, width)


def _follows(output: TensorInfo, height: int, width: int) -> bool:
    """Whether an output has the rows and columns of the input, or a multiple of them."""
    shape = output.shape
    return (
        len(shape) == 4 and shape[1] % height == 0 and shape[2] % width == 0 and shape[1] // height == shape[2] // width
    )


@dataclass(slots=True)
class _Frame:
    inputs: list[NDArray[Any]]
    outputs: list[NDArray[Any]]


class SpotChecks:
    """The checks of one delegate's frames, which are all of one size.

    Args:
        cpu: the model on the CPU, with one thread, for inputs of `part_size`. It is not closed.
        inputs: of the model.
        outputs: of the model.
        limits: what is allowed.
        radius: of the receptive field.
        multiple: what a part's position is a multiple of.
        usual_rms_lsb: of each output in the check at the start.
        same_results: compares outputs with those of the CPU as what they are decoded to; why they are not the same, ""
            where they are. Used for whole frames.
        clock: the time in seconds.
        cost_clock: what inferences of `cpu` cost, in seconds.
    """

    def __init__(
        self,
        cpu: Engine,
        *,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        limits: ParityLimits,
        radius: int,
        multiple: int,
        usual_rms_lsb: Sequence[float],
        same_results: Callable[[Sequence[NDArray[Any]], Sequence[NDArray[Any]]], str],
        clock: Callable[[], float],
        cost_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._cpu, self._outputs, self._limits = cpu, outputs, limits
        self._usual_rms_lsb, self._same_results, self._clock = usual_rms_lsb, same_results, clock
        self._cost_clock = cost_clock
        self._shape, part = inputs[0].shape, cpu.inputs[0].shape
        self._is_whole = part == self._shape
        self._regions = [] if self._is_whole else regions(self._shape, part, radius, multiple)
        self._next_region = 0
        self._before: _Frame | None = None
        self._due_s = clock()
        self._stale_frames = 0
        self._cost_s = 0.0  # the least of an inference so far

    def is_due_whole(self, frame: int) -> bool:
        """Whether all outputs of a frame are to be compared with those of the CPU.

        Args:
            frame: how many the delegate has run, with this one.
        """
        return frame & (frame - 1) == 0

    def hasten(self) -> None:
        """Makes the next check due at once."""
        self._due_s = self._clock()

    def check(self, inputs: list[NDArray[Any]], outputs: list[NDArray[Any]]) -> None:
        """Checks a frame if it is time to.

        Args:
            inputs: of the model; copied where they are needed for the next frame.
            outputs: of the delegate; likewise.

        Raises:
            DisagreementError: the delegate is wrong.
            EngineError: the CPU fails.
        """
        before, self._before = self._before, None
        if before is not None and not all(map(np.array_equal, before.inputs, inputs)):
            self._compare(before, _Frame(inputs, outputs))
        if before is None and self._clock() < self._due_s:
            return
        if before is None or self._stale_frames:
            self._before = _Frame([array.copy() for array in inputs], [array.copy() for array in outputs])
            return
        self._due_s = self._clock() + max(_INTERVAL_S, self._inferences * self._cost_s / _SHARE)

    def _compare(self, before: _Frame, now: _Frame) -> None:
        for output, tensor in zip(now.outputs, self._outputs, strict=True):
            if output.dtype.kind == "f" and not np.isfinite(output).all():
                raise DisagreementError(f"output '{tensor.name}' has values that are not finite")
        if self._is_whole:
            self._compare_part(None, before, now)
            return
        changing = self._changing(before.inputs[0], now.inputs[0])
        self._next_region = (self._next_region + 1) % len(self._regions)
        chosen = [changing, self._next_region]
        if self._inferences == 1:
            chosen = [chosen[self._next_region % 2]]
        for index in dict.fromkeys(chosen):
            self._compare_part(self._regions[index], before, now)

    @property
    def _inferences(self) -> int:
        """How many a check costs: two parts where both can be had often enough."""
        return 1 if self._is_whole or 2 * self._cost_s > _SHARE * _INTERVAL_S else 2

    def _compare_part(self, region: Region | None, before: _Frame, now: _Frame) -> None:
        found = self._inner(region, now.outputs)
        expected = self._run(region, now.inputs)
        check = compare(found, expected, self._outputs)
        require_parity(check, self._limits, factor=1.0 if region is None else _PART_FACTOR)
        if region is None and (reason := self._same_results(found, expected)):
            raise DisagreementError(f"it disagrees with the CPU: {reason}")
        stands_still = all(map(np.array_equal, found, self._inner(region, before.outputs)))
        is_far = any(
            output.rms_lsb > _SUSPICIOUS * usual
            for output, usual in zip(check.outputs, self._usual_rms_lsb, strict=True)
        )
        if stands_still or is_far:
            self._compare_with_before(found, expected, self._run(region, before.inputs), stands_still)
        else:
            self._stale_frames = 0

    def _compare_with_before(
        self,
        found: Sequence[NDArray[Any]],
        expected: Sequence[NDArray[Any]],
        earlier: Sequence[NDArray[Any]],
        stands_still: bool,
    ) -> None:
        """Raises where outputs do not follow the input, or follow it a frame late."""
        if stands_still and any(
            np.count_nonzero(e != c) > 0.02 * e.size for e, c in zip(earlier, expected, strict=True)
        ):
            raise DisagreementError(
                "its outputs stand still: two frames in succession gave the same, and on the CPU others"
            )
        if any(map(self._is_earlier, found, expected, earlier, self._outputs)):
            self._stale_frames += 1
            if self._stale_frames >= _STALE_FRAMES:
                raise DisagreementError(f"its outputs are those of earlier frames, {_STALE_FRAMES} times in succession")
        else:
            self._stale_frames = 0

    @staticmethod
    def _is_earlier(found: NDArray[Any], expected: NDArray[Any], earlier: NDArray[Any], tensor: TensorInfo) -> bool:
        """Whether an output fits an earlier frame better than its own.

        Rounding knows nothing of the frame before, so that the differences from the CPU are not correlated with those
        between the two frames. Means are left out: brightness may change with every frame.
        """
        off, change = difference_lsb(found, expected, tensor), difference_lsb(earlier, expected, tensor)
        off, change = off - off.mean(), change - change.mean()
        together, moved, squares = float((off * change).sum()), float((change * change).sum()), float((off * off).sum())
        if off.size < _STALE_VALUES or not moved or not squares:
            return False
        return together / moved > _STALE_SHARE and together * together / (moved * squares) > _STALE_EXPLAINED

    def _run(self, region: Region | None, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        begun_s = self._cost_clock()
        outputs = self._cpu.run(inputs if region is None else [region.cut(array) for array in inputs])
        cost_s = self._cost_clock() - begun_s
        self._cost_s = min(self._cost_s or cost_s, cost_s)
        return outputs if region is None else [region.of_part(output) for output in outputs]

    def _inner(self, region: Region | None, outputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        return outputs if region is None else [region.of_whole(output, self._shape[1]) for output in outputs]

    def _changing(self, before: NDArray[Any], now: NDArray[Any]) -> int:
        """The index of the region in which two frames differ most, by every fourth row and column of one plane."""
        difference = np.abs(now[0, ::4, ::4, 0].astype(np.float32) - before[0, ::4, ::4, 0])
        sums = np.pad(difference, ((1, 0), (1, 0))).cumsum(0, np.float64).cumsum(1)

        def change(region: Region) -> float:
            (top, bottom), (left, right) = (
                (-(-part.start // 4), -(-part.stop // 4)) for part in (region.inner_rows, region.inner_columns)
            )
            return float(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left])

        return int(np.argmax([change(region) for region in self._regions]))


def regions(shape: tuple[int, ...], part: tuple[int, ...], radius: int, multiple: int) -> list[Region]:
    """Parts of a size that cover an input, with what counts of each.

    Args:
        shape: of the input.
        part: shape of a part of it.
        radius: of the receptive field.
        multiple: where parts begin.
    """
    down, across = (_starts(shape[axis], part[axis], multiple) for axis in (1, 2))
    return [
        Region(
            slice(top, top + part[1]),
            slice(left, left + part[2]),
            _inner(top, part[1], shape[1], radius),
            _inner(left, part[2], shape[2], radius),
        )
        for top in down
        for left in across
    ]


def _starts(size: int, part: int, multiple: int) -> list[int]:
    step = max(_CENTRE // multiple, 1) * multiple
    return sorted({*range(0, size - part + 1, step), size - part})


def _inner(begin: int, length: int, size: int, radius: int) -> slice:
    """The network pads at the frame's edge as it does in the whole frame; elsewhere the radius is left out."""
    return slice(begin + radius if begin else 0, begin + length - radius if begin + length < size else size)


def _scaled(part: slice, scale: int, origin: int) -> slice:
    return slice((part.start - origin) * scale, (part.stop - origin) * scale)
