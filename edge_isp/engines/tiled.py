"""A frame in overlapping tiles: an engine that runs another one on parts of its input, for bounded memory.

An output of a network without a view of the whole picture depends on no more of the input than its receptive field. So
tiles that overlap by its radius give the very values that the whole frame gives: at a tile's edge the values within the
radius are left out, and at the frame's edge the tile ends with the frame, where the network pads as it does with the
whole.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import ClosingEngine, Engine, EngineReport, TensorInfo, check_inputs
from edge_isp.errors import EngineError

# Height and width in the input's rows and columns.
Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Span:
    """Along one axis: what a tile sees, and which part of its output counts.

    Attributes:
        begin: the first row or column that the tile sees.
        first: the first that counts.
        last: the end (exclusive) of those that count.
    """

    begin: int
    first: int
    last: int


def spans(size: int, tile: int, radius: int, multiple: int = 1) -> list[Span]:
    """Covers an axis with tiles of one size; the parts that count follow each other without a gap.

    Args:
        size: of the axis, a multiple of `multiple`.
        tile: size of a tile, a multiple of `multiple`, of at least `smallest_tile`, or at least the axis' size for a
            single tile.
        radius: of the receptive field.
        multiple: tiles begin at one.

    Raises:
        ValueError: The tile is too small, or the tile or the axis is no multiple.
    """
    if tile >= size:
        return [Span(0, 0, size)]
    if tile < smallest_tile(radius, multiple) or tile % multiple or size % multiple:
        raise ValueError(
            f"a tile must be at least {smallest_tile(radius, multiple)} for a receptive field of radius {radius}, "
            f"and like the axis a multiple of {multiple}; found a tile of {tile} and an axis of {size}"
        )
    found = [Span(0, 0, tile - radius)]
    while found[-1].last < size:
        first = found[-1].last
        begin = min((first - radius) // multiple * multiple, size - tile)
        found.append(Span(begin, first, size if begin + tile == size else begin + tile - radius))
    return found


def smallest_tile(radius: int, multiple: int) -> int:
    """The smallest tile of which a part counts wherever it begins.

    Args:
        radius: of the receptive field.
        multiple: tiles begin at one, and their size is one.
    """
    return math.ceil((2 * radius + multiple) / multiple) * multiple


class TiledEngine(ClosingEngine):
    """Runs an engine on tiles of its input where frames are too large for it.

    The results are bit-identical to those of the whole frame wherever the engine gives one value for one neighbourhood
    whatever the size of its input, as LiteRT's int8 arithmetic does.

    Args:
        engine: runs the model; has one input (1, h, w, channels), and outputs of the same or a multiple of its height
            and width. Closed with this engine.
        path: of the model's file, for messages.
        radius: of the receptive field, in rows and columns of the input; used only where frames are cut.
        multiple: what the input's height and width, tiles and their beginnings are a multiple of.
        tile_for: chooses the height and width of a tile for the height and width of an input; None for the whole.

    Raises:
        EngineError: The model has other tensors.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        path: Path,
        radius: int,
        tile_for: Callable[[Size], Size | None],
        multiple: int = 1,
    ) -> None:
        self._engine, self._path, self._radius, self._tile_for = engine, path, radius, tile_for
        self._multiple = multiple
        self._shape = engine.inputs[0].shape
        self._tile: Size | None = None
        self._frames: Counter[str] = Counter()
        self._report = self._describe()

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """See `Engine.inputs`; of the whole frame."""
        if self._tile is None:
            return self._engine.inputs
        return (replace(self._engine.inputs[0], shape=self._shape),)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """See `Engine.outputs`; of the whole frame."""
        if self._tile is None:
            return self._engine.outputs
        return tuple(replace(output, shape=self._whole_shape(output)) for output in self._engine.outputs)

    @property
    def report(self) -> EngineReport:
        """See `Engine.report`: frames are counted whole, durations are those of one tile."""
        return self._report

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `Engine.resize`; decides whether frames of this shape are done in tiles, and in which."""
        tile = self._choose(shape)
        before = self._engine.inputs[0].shape
        self._engine.resize(shape if tile is None else (shape[0], *tile, shape[3]))
        if tile is not None:
            try:
                self._check_tensors(shape)
            except EngineError:
                self._engine.resize(before)
                raise
        self._shape, self._tile = shape, tile
        self._report = self._describe()

    def _choose(self, shape: tuple[int, ...]) -> Size | None:
        """Height and width of the tiles of an input; None for the whole, and for a shape that the engine refuses."""
        if len(shape) != 4 or min(shape) < 1:
            return None
        tile = self._tile_for((shape[1], shape[2]))
        if tile is None or (tile[0] >= shape[1] and tile[1] >= shape[2]):
            return None
        return min(tile[0], shape[1]), min(tile[1], shape[2])

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`."""
        outputs = self._engine.run(inputs) if self._tile is None else self._run_tiles(self._tile, inputs)
        self._frames[self._engine.report.delegate] += 1
        self._report = self._describe()
        return outputs

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()

    def _run_tiles(self, tile: Size, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        check_inputs(self._path, inputs, self.inputs)
        whole = [np.empty(output.shape, output.dtype) for output in self.outputs]
        part = np.empty((1, *tile, self._shape[3]), inputs[0].dtype)
        for down in spans(self._shape[1], tile[0], self._radius, self._multiple):
            for across in spans(self._shape[2], tile[1], self._radius, self._multiple):
                rows = slice(down.begin, down.begin + tile[0])
                columns = slice(across.begin, across.begin + tile[1])
                part[0] = inputs[0][0, rows, columns]
                for output, target in zip(self._engine.run([part]), whole, strict=True):
                    scale = output.shape[1] // tile[0]
                    target[0, _scaled(down, scale, 0), _scaled(across, scale, 0)] = output[
                        0, _scaled(down, scale, down.begin), _scaled(across, scale, across.begin)
                    ]
        return whole

    def _check_tensors(self, shape: tuple[int, ...]) -> None:
        """Raises where the outputs of tiles of an input of a shape cannot be put together."""
        inputs, outputs = self._engine.inputs, self._engine.outputs
        size = inputs[0].shape[1:3]
        is_picture = all(
            len(output.shape) == 4
            and all(found % expected == 0 for found, expected in zip(output.shape[1:3], size, strict=True))
            and output.shape[1] // size[0] == output.shape[2] // size[1]
            for output in outputs
        )
        if len(inputs) != 1 or shape[0] != 1 or not is_picture:
            raise EngineError(
                f"{self._path}: frames cannot be cut into tiles: expected one input (1, h, w, channels) and outputs of "
                f"the same or a multiple of its height and width, found inputs {[i.shape for i in inputs]} and outputs "
                f"{[o.shape for o in outputs]}"
            )

    def _whole_shape(self, output: TensorInfo) -> tuple[int, ...]:
        height, width = self._engine.inputs[0].shape[1:3]
        rows, columns = self._shape[1:3]
        return (1, rows * (output.shape[1] // height), columns * (output.shape[2] // width), output.shape[3])

    def _describe(self) -> EngineReport:
        return replace(self._engine.report, frames=tuple(self._frames.items()), tile=self._tile)


def _scaled(span: Span, scale: int, origin: int) -> slice:
    """The part of a span that counts, in rows or columns of an output, counted from `origin`."""
    return slice((span.first - origin) * scale, (span.last - origin) * scale)
