"""Frames to measure from: stacks of one scene under one exposure, and whether they are good enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.errors import CalibrationError
from edge_isp.frame import RawFrame
from edge_isp.kernels.layout import CELL_PLANES
from edge_isp.kernels.unpack import unpack

CHANNELS = ("R", "Gr", "Gb", "B")

# Beyond so large a share of clipped pixels the mean and the spread of the others can no longer be trusted. A few
# are defective pixels.
_CLIPPED_SHARE = 2e-4

# Flicker and motion: how far frames, bands and tiles of a still, steadily lit scene may differ.
_STEADY = 0.01
_BAND = 0.005
_TILE = 0.02
_TILES = 8
_SIGMAS = 8.0


@dataclass(frozen=True, slots=True)
class Stack:
    """Frames of one scene under one exposure.

    Attributes:
        codes: (frames, height, width).
        source: for messages.
        The others are those of the frames; see `RawFrame`.
    """

    codes: NDArray[np.uint16]
    source: str
    cfa: str
    bit_depth: int
    black_level: tuple[float, float, float, float]
    white_level: float
    sensor: str | None = None
    analogue_gain: float | None = None
    exposure_ns: int | None = None
    colour_temperature_k: float | None = None

    @property
    def gain(self) -> float:
        """The analogue gain, 1 where the camera does not say."""
        return self.analogue_gain or 1.0

    def planes(self) -> NDArray[np.float32]:
        """Codes by channel: (4, frames, height / 2, width / 2) in the order R, Gr, Gb, B."""
        frames, height, width = self.codes.shape
        out = np.empty((4, frames, height // 2, width // 2), np.float32)
        for place, plane in enumerate(CELL_PLANES[self.cfa]):
            y, x = divmod(place, 2)
            out[plane] = self.codes[:, y::2, x::2]
        return out

    def place(self, plane: int, row: int, column: int) -> tuple[int, int]:
        """Column and row in the frame of a pixel of a plane."""
        y, x = divmod(CELL_PLANES[self.cfa].index(plane), 2)
        return 2 * column + x, 2 * row + y


def read_stacks(frames: Iterable[RawFrame]) -> list[Stack]:
    """Frames, each released when it has been copied, as stacks: those that follow each other under the same
    exposure and gain from one source make one.

    Raises:
        CalibrationError: there is no frame, or the format changes on the way.
    """
    stacks = []
    for _, group in groupby(_copied(frames), lambda one: (one[1].source, one[1].exposure_ns, one[1].analogue_gain)):
        copies, similar = zip(*group, strict=True)
        first = similar[0]
        if any(frame.format != first.format for frame in similar):
            raise CalibrationError(
                f"{first.source}: all frames must have one format, found another than {first.format}"
            )
        stacks.append(
            Stack(
                codes=np.stack(copies),
                source=first.source,
                cfa=str(first.format.cfa),
                bit_depth=first.format.bit_depth,
                black_level=first.black_level,
                white_level=first.white_level,
                sensor=first.sensor,
                analogue_gain=first.analogue_gain,
                exposure_ns=first.exposure_ns,
                colour_temperature_k=first.colour_temperature_k,
            )
        )
    if not stacks:
        raise CalibrationError("the camera delivered no frame to measure from")
    if len({(s.codes.shape[1:], s.cfa, s.bit_depth) for s in stacks}) > 1:
        raise CalibrationError(f"{stacks[0].source}: all frames must have one size, colour order and bit depth")
    return stacks


def _copied(frames: Iterable[RawFrame]) -> Iterable[tuple[NDArray[np.uint16], RawFrame]]:
    for frame in frames:
        with frame:
            yield unpack(frame.data, frame.format.layout), frame


def require_frames(stack: Stack, least: int) -> None:
    """Raises CalibrationError where a stack has fewer frames than `least`."""
    found = len(stack.codes)
    if found < least:
        raise CalibrationError(f"{stack.source}: too few frames: expected at least {least} alike, found {found}")


def require_unclipped(stack: Stack) -> None:
    """Raises CalibrationError where pixels sit at white level."""
    share = float(np.mean(stack.codes >= np.floor(stack.white_level)))
    if share > _CLIPPED_SHARE:
        raise CalibrationError(
            f"{stack.source}: saturated: {share:.2%} of the pixels are at white level {stack.white_level:g}"
            f"{_exposure(stack)}; expose less"
        )


def require_steady(stack: Stack, black_level: tuple[float, ...]) -> None:
    """Raises CalibrationError where brightness changes from frame to frame (flicker) or something moves.

    Args:
        black_level: codes in the order R, Gr, Gb, B.
    """
    if len(stack.codes) < 2:
        return
    signal, tile_error, band_error = _tiles(stack, black_level)
    scene = signal.mean(axis=0)
    ratio = signal / scene
    band_error = band_error / scene.mean(axis=1)
    # The median: what moves in a few tiles does not change it.
    frame = np.median(ratio, axis=(1, 2))
    spread, allowed = _excess(frame, float(band_error.max()) / np.sqrt(_TILES))
    if spread > _STEADY + allowed:
        raise CalibrationError(
            f"{stack.source}: flicker: brightness changes by {spread:.1%} from frame to frame{_exposure(stack)}; "
            "use steady light and fixed exposure"
        )
    ratio = ratio / frame[:, None, None]
    bands = np.median(ratio, axis=2)
    spread, allowed = _excess(bands, float(band_error.max()))
    if spread > _BAND + allowed:
        raise CalibrationError(
            f"{stack.source}: flicker: bands of {spread:.1%} wander over the frames{_exposure(stack)}; use steady "
            "light, or an exposure of whole mains periods"
        )
    spread, allowed = _excess(ratio / bands[:, :, None], float((tile_error / scene).max()))
    if spread > _TILE + allowed:
        raise CalibrationError(
            f"{stack.source}: something moves: a part of the picture changes by {spread:.1%} from frame to frame"
        )


def _tiles(
    stack: Stack, black_level: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean signal of 8x8 tiles in each frame (frames, 8, 8), all channels together; its standard error in a tile
    (8, 8), and in a band of tiles (8,).

    The errors come from the differences of the first two frames' rows, so they hold row noise, which the tiles of
    a band share.
    """
    frames, height, width = stack.codes.shape
    rows, columns = height // 2 // _TILES, width // 2 // _TILES
    if rows < 2 or columns < 2:
        raise CalibrationError(
            f"{stack.source}: frames must be at least {4 * _TILES}x{4 * _TILES} pixels, found {width}x{height}"
        )
    summed = (stack.planes() - np.array(black_level, np.float32)[:, None, None, None]).sum(axis=0)
    cut = summed[:, : rows * _TILES, : columns * _TILES].reshape(frames, _TILES, rows, _TILES, columns)
    of_rows = cut.mean(axis=4, dtype=np.float64)
    difference = of_rows[1] - of_rows[0]
    tile_error = difference.std(axis=1, ddof=1) / np.sqrt(2 * rows)
    band_error = difference.mean(axis=2).std(axis=1, ddof=1) / np.sqrt(2 * rows)
    # Where there is next to no light, ratios mean nothing: one code counts as the least signal.
    return np.maximum(of_rows.mean(axis=2), 1.0), tile_error, band_error


def _excess(values: NDArray[np.float64], error: float) -> tuple[float, float]:
    """Spread over the frames at the worst place, and how much of it noise explains."""
    return float((values.max(axis=0) - values.min(axis=0)).max()), _SIGMAS * error


def _exposure(stack: Stack) -> str:
    parts: list[str] = []
    if stack.exposure_ns is not None:
        parts.append(f"exposure {stack.exposure_ns / 1e6:g} ms")
    if stack.analogue_gain is not None:
        parts.append(f"gain {stack.analogue_gain:g}")
    return f" ({', '.join(parts)})" if parts else ""


def describe(stacks: list[Stack], **conditions: Any) -> str:
    """Conditions of a measurement in words, for the profile."""
    height, width = stacks[0].codes.shape[1:]
    frames = sum(len(stack.codes) for stack in stacks)
    parts = [f"{frames} frames of {width}x{height}, {stacks[0].bit_depth} bit, {stacks[0].cfa}"]
    gains = sorted({stack.analogue_gain for stack in stacks if stack.analogue_gain is not None})
    parts.append("analogue gain " + (", ".join(f"{gain:g}" for gain in gains) if gains else "not reported, taken as 1"))
    parts += [f"{name.replace('_', ' ')} {value}" for name, value in conditions.items()]
    return "; ".join(parts)
