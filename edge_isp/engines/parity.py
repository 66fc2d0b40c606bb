"""Spot checks: whether a delegate's outputs are the CPU's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import OutputParity, ParityCheck, TensorInfo
from edge_isp.errors import EngineError

_STANDARD_ERRORS = 3.0


@dataclass(frozen=True, slots=True)
class ParityLimits:
    """How far a delegate's outputs may be from the CPU's, in steps of their quantisation.

    The defaults: the two int8 arithmetics of LiteRT itself, XNNPACK's and that of its own kernels, are 0.7 LSB rms
    apart after 16 operators and 1.4 LSB after 56; an error in a channel, a tile or a scale is tens of LSB.

    Attributes:
        rms_lsb: root mean square difference, of each output; one number holds for all.
        mean_lsb: mean difference in either direction, likewise.
    """

    rms_lsb: tuple[float, ...] = (2.0,)
    mean_lsb: tuple[float, ...] = (2.0,)

    def of(self, output: int) -> tuple[float, float]:
        """The two limits of an output.

        Args:
            output: its index.
        """
        return self.rms_lsb[min(output, len(self.rms_lsb) - 1)], self.mean_lsb[min(output, len(self.mean_lsb) - 1)]


class DisagreementError(EngineError):
    """A delegate's outputs are not those of the CPU."""


def compare(
    outputs: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]], tensors: Sequence[TensorInfo]
) -> ParityCheck:
    """The difference of outputs from a reference, of each tensor and over all together.

    Args:
        outputs: the tensors to check.
        reference: the tensors that are right, of the same shapes.
        tensors: what is known of each; differences are counted in steps of its quantisation, and in 1/255 of its range
            where it is not quantised.
    """
    squares, values, equal, greatest = 0.0, 0, 0, 0.0
    each = []
    for found, expected, tensor in zip(outputs, reference, tensors, strict=True):
        difference = difference_lsb(found, expected, tensor)
        total = float(np.square(difference).sum(dtype=np.float64))
        size = max(difference.size, 1)
        mean = float(difference.sum(dtype=np.float64)) / size
        each.append(OutputParity(tensor.name, (total / size) ** 0.5, mean, difference.size))
        squares += total
        equal += int(np.count_nonzero(difference == 0))
        values += difference.size
        greatest = float(np.maximum(greatest, np.abs(difference).max(initial=0)))  # NaN stays NaN
    return ParityCheck((squares / max(values, 1)) ** 0.5, greatest, equal / max(values, 1), tuple(each))


def difference_lsb(found: NDArray[Any], expected: NDArray[Any], tensor: TensorInfo) -> NDArray[Any]:
    """The difference of one output from a reference.

    Args:
        found: the output.
        expected: the reference, of the same shape.
        tensor: see `compare`.
    """
    difference: NDArray[Any] = np.subtract(found, expected, dtype=np.float32 if found.itemsize == 1 else np.float64)
    if not tensor.scale:  # not quantised
        difference /= (float(np.ptp(expected)) or 1.0) / 255
    return difference


def require_parity(check: ParityCheck, limits: ParityLimits, *, factor: float = 1.0) -> None:
    """Refuses outputs that are too far from the CPU's.

    Args:
        check: the comparison.
        limits: what is allowed.
        factor: of the limits.

    Raises:
        DisagreementError: an output is too far off.
    """
    for index, output in enumerate(check.outputs):
        rms_lsb, mean_lsb = (factor * limit for limit in limits.of(index))
        # The mean of few values is off by chance.
        mean_lsb += _STANDARD_ERRORS * output.rms_lsb / max(output.values, 1) ** 0.5
        # `not <=` refuses NaN as well, which a broken delegate makes of float outputs.
        if not output.rms_lsb <= rms_lsb or not abs(output.mean_lsb) <= mean_lsb:
            raise DisagreementError(
                f"it disagrees with the CPU: {describe(check)}; output '{output.name}' is off by "
                f"{output.rms_lsb:.2f} LSB rms and {output.mean_lsb:+.2f} LSB in the mean, allowed {rms_lsb:g} LSB rms "
                f"and {mean_lsb:.1f} LSB in the mean"
            )


def describe(check: ParityCheck) -> str:
    """A comparison in words.

    Args:
        check: the comparison.
    """
    return (
        f"{check.equal:.1%} of values equal to the CPU's, difference {check.rms_lsb:.2f} LSB rms, "
        f"{check.max_lsb:g} at most"
    )


def wave_inputs(tensors: Sequence[TensorInfo]) -> list[NDArray[Any]]:
    """Waves in the place of an empty frame, on which any two engines would agree.

    Args:
        tensors: the model's inputs.
    """
    frames = []
    for tensor in tensors:
        phase = np.zeros(tensor.shape)
        for axis, size in enumerate(tensor.shape):
            steps = [1] * len(tensor.shape)
            steps[axis] = size
            phase += (np.arange(size) * (0.13 + 0.11 * axis)).reshape(steps)
        values = (np.sin(phase) + 1) / 2
        if np.issubdtype(np.dtype(tensor.dtype), np.integer):
            limits = np.iinfo(tensor.dtype)
            values = np.rint(limits.min + values * (limits.max - limits.min))
        frames.append(values.astype(tensor.dtype))
    return frames
