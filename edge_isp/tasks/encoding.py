"""What every task needs: tables that encode a frame, and checks of cards and models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import digital_gain, normalise_gains
from edge_isp.calibration.profile import UNKNOWN_NOISE, SensorProfile
from edge_isp.engines.base import TensorInfo
from edge_isp.errors import FormatError, ModelError
from edge_isp.frame import RawFormat, RawFrame
from edge_isp.kernels.layout import RawLayout, mirrored_cfa, red_place
from edge_isp.kernels.tables import CURVES, encoding_table, step_table
from edge_isp.models.card import ModelCard, TensorCard
from edge_isp.orientation import upright_steps


def normalised_gains(frame: RawFrame) -> tuple[float, float, float]:
    """The frame's gains (red, green, blue): white balance, the smallest 1, times its brightness from 1 on.

    Args:
        frame: with colour gains.

    Raises:
        FormatError: it has none, or a gain is not a positive number.
    """
    if frame.colour_gains is None:
        raise FormatError(
            f"{frame.source}: frame {frame.sequence} has no colour gains, which encoding needs: give it some with "
            "edge_isp.metering.meter.complete_frame, as pipelines do"
        )
    try:
        red, green, blue = normalise_gains(frame.colour_gains[0], 1.0, frame.colour_gains[1])
        factor = max(1.0, digital_gain(frame) * frame.auto_brightness)
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise FormatError(
            f"{frame.source}: frame {frame.sequence}: gains must be positive finite numbers, found colour_gains "
            f"{frame.colour_gains}, digital_gain {frame.digital_gain} and baseline_exposure_ev "
            f"{frame.baseline_exposure_ev}"
        ) from error
    return red * factor, green * factor, blue * factor


def darkening(frame: RawFrame) -> float:
    """Factor of at most 1 on the light behind the model, which makes clipped highlights grey and not coloured.

    Args:
        frame: with an automatic brightness.
    """
    return min(1.0, digital_gain(frame) * frame.auto_brightness)


def frame_noise(frame: RawFrame, profile: SensorProfile | None) -> tuple[float, float]:
    """Variance of a frame's noise, for each unit of linear light (0 to 1) and without light.

    As the frame states it, which may be none at all; else that of its sensor at its analogue gain; else that of a
    typical sensor.

    Args:
        frame: to encode.
        profile: the sensor's, or None.

    Raises:
        FormatError: the gain is not positive, or the noise is negative or no number.
    """
    gain = 1.0 if frame.analogue_gain is None else frame.analogue_gain
    if frame.noise_profile is not None:
        shot, read = frame.noise_profile
        usable = shot >= 0 and read >= 0
    else:
        noise = profile.noise if profile is not None and profile.noise is not None else UNKNOWN_NOISE
        shot, read, usable = noise.shot * gain, noise.read_variance(gain), gain > 0
    if not usable or not math.isfinite(shot) or not math.isfinite(read):
        raise FormatError(
            f"{frame.source}: frame {frame.sequence}: analogue_gain must be a positive number and noise_profile not "
            f"negative, found {frame.analogue_gain} and {frame.noise_profile}"
        )
    return shot, read


@dataclass(frozen=True, slots=True)
class UprightWindow:
    """How to read a frame as an RGGB mosaic of the upright scene; made by `upright_window`.

    Attributes:
        layout: of the rows from `first_row` on.
        first_row: 1 leaves out the first and the last row of the frame, and the layout counts from the second.
        first_column: 1 leaves out the first and the last column of the layout.
        flip_vertical: whether to make the first row the last, before rows and columns are exchanged.
        flip_horizontal: whether to make the first column the last, likewise.
        exchanged: whether the upright scene's rows are the frame's columns.
    """

    layout: RawLayout
    first_row: int
    first_column: int
    flip_vertical: bool
    flip_horizontal: bool
    exchanged: bool

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of whole 2x2 cells of the frame, before they are exchanged."""
        rows, columns = self.layout.cells
        return rows, columns - self.first_column


@lru_cache(maxsize=64)
def upright_window(raw_format: RawFormat, orientation: int = 1) -> UprightWindow:
    """How to read frames of a format as RGGB, with the scene upright and not mirrored, as a detector has learnt it.

    Mirroring alone, as `kernels.layout.flips_to_rggb` asks for, would turn the scene, which a network that restores
    pictures does not mind. So the first and the last row are left out where red would not be in the first otherwise,
    and the first and the last column likewise: the pattern of the mosaic moves by a pixel.

    Args:
        raw_format: of the frames.
        orientation: of the frames, 1 to 8, see `edge_isp.orientation`.

    Raises:
        FormatError: the frames have only two rows or columns, and one would have to be left out.
    """
    exchanged, rows, columns = upright_steps(orientation)
    flip_vertical, flip_horizontal = (columns, rows) if exchanged else (rows, columns)
    red_row, red_column = red_place(raw_format.cfa)
    # A flip takes red from the second row or column to the first.
    first_row, first_column = int(red_row != flip_vertical), int(red_column != flip_horizontal)
    for name, side, first in (("rows", raw_format.height, first_row), ("columns", raw_format.width, first_column)):
        if side < 2 + 2 * first:
            raise FormatError(f"frames of CFA order {raw_format.cfa} need at least 4 {name}, found {side}")
    layout = raw_format.layout
    if first_row:
        cfa = mirrored_cfa(raw_format.cfa, vertical=True, horizontal=False)
        layout = replace(layout, height=raw_format.height - 2, cfa=cfa)
    return UprightWindow(layout, first_row, first_column, flip_vertical, flip_horizontal, exchanged)


def levels(frame: RawFrame) -> tuple[Any, ...]:
    """Everything that an encoding table depends on, except the gains.

    Args:
        frame: the frame.
    """
    return (frame.format.bit_depth, frame.format.cfa, frame.black_level, frame.white_level)


def frame_tables(frame: RawFrame, gains: tuple[float, float, float], source: TensorCard) -> NDArray[np.int8]:
    """The tables from the frame's codes to a model's input, see `kernels.tables.encoding_table`.

    Args:
        frame: whose levels count.
        gains: red, green and blue, the smallest 1.
        source: the model's input.
    """
    return encoding_table(
        bit_depth=frame.format.bit_depth,
        black_level=frame.black_level,
        white_level=frame.white_level,
        gains=gains,
        curve=source.curve,
        scale=source.scale,
        zero_point=source.zero_point,
    )


def frame_steps(frame: RawFrame, gains: tuple[float, float, float], source: TensorCard) -> NDArray[np.uint16]:
    """The tables in fine steps that lens-shading factors multiply, see `kernels.tables.step_table`.

    Args:
        frame: whose levels count.
        gains: red, green and blue, the smallest 1.
        source: the model's input.
    """
    return step_table(
        bit_depth=frame.format.bit_depth,
        black_level=frame.black_level,
        white_level=frame.white_level,
        gains=gains,
        curve=source.curve,
        scale=source.scale,
        zero_point=source.zero_point,
    )


def verify_task(card: ModelCard, task: str) -> None:
    """Checks the task of a card.

    Args:
        card: to check.
        task: it must have.

    Raises:
        ModelError: it has another one.
    """
    verify_entries(card, ("task", task, card.task))


def verify_input(card: ModelCard, *, layout: str, channels: int) -> None:
    """Checks the input that a card describes.

    Args:
        card: to check.
        layout: of the input that its task makes.
        channels: of the input that its task makes.

    Raises:
        ModelError: the card describes another one.
    """
    source = card.input
    verify_entries(
        card,
        ("input layout", layout, source.layout),
        ("input channels", channels, source.shape[3]),
        ("input dtype", "int8", source.dtype),
    )
    if source.curve not in CURVES:
        raise ModelError(
            f"card of '{card.name}': input curve must be one of {', '.join(CURVES)}, found '{source.curve}'"
        )


def verify_entries(card: ModelCard, *entries: tuple[str, object, object]) -> None:
    """Compares entries of a card with what they must be.

    Args:
        card: named in the error.
        *entries: each (what, expected, found).

    Raises:
        ModelError: for the first entry that differs.
    """
    for what, expected, found in entries:
        if found != expected:
            raise ModelError(f"card of '{card.name}': {what} must be '{expected}', found '{found}'")


def verify_tensors(card: ModelCard, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
    """Compares a loaded model's tensors with its card.

    Args:
        card: the model's.
        inputs: in the file's order.
        outputs: in the file's order.

    Raises:
        ModelError: they are not what the card says.
    """
    for what, tensors, described in (("input", inputs, (card.input,)), ("output", outputs, card.outputs)):
        if len(tensors) != len(described):
            number = "one" if len(described) == 1 else str(len(described))
            raise ModelError(
                f"{card.path}: expected {number} {what}{'s' if len(described) > 1 else ''}, found {len(tensors)}"
            )
        for place, (tensor, expected) in enumerate(zip(tensors, described, strict=True)):
            which = f" {place}" if len(described) > 1 else ""
            _verify_tensor(f"{card.path}: {what}{which}", tensor, expected)


def _verify_tensor(what: str, tensor: TensorInfo, card: TensorCard) -> None:
    for name, found, expected in (
        ("shape", tensor.shape, card.shape),
        ("dtype", tensor.dtype, card.dtype),
        ("zero point", tensor.zero_point, card.zero_point),
    ):
        if found != expected:
            raise ModelError(f"{what} {name}: the card says {expected}, the model's file has {found}")
    if abs(tensor.scale - card.scale) > 1e-6 * card.scale:
        raise ModelError(f"{what} scale: the card says {card.scale}, the model's file has {tensor.scale}")
