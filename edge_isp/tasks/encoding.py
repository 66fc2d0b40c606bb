"""What every task needs: a frame on its way into a tensor, and whether card and model are what they must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import normalise_gains
from edge_isp.engines.base import TensorInfo
from edge_isp.errors import FormatError, ModelError
from edge_isp.frame import RawFormat, RawFrame
from edge_isp.kernels.layout import flips_to_rggb
from edge_isp.kernels.tables import CURVES, encoding_table
from edge_isp.models.card import ModelCard, TensorCard


def normalised_gains(frame: RawFrame) -> tuple[float, float, float]:
    """The frame's white-balance gains (red, green, blue), the smallest 1.

    Args:
        frame: with colour gains.

    Raises:
        FormatError: it has none.
    """
    if frame.colour_gains is None:
        raise FormatError(
            f"{frame.source}: frame {frame.sequence} has no colour gains, which encoding needs: give it some with "
            "edge_isp.metering.white_balance.with_gains, as pipelines do"
        )
    red, blue = frame.colour_gains
    return normalise_gains(red, 1.0, blue)


def raw_layout(frame: RawFrame) -> dict[str, Any]:
    """The frame's layout, as the kernels take it."""
    layout = frame.format
    return {
        "width": layout.width,
        "height": layout.height,
        "packing": layout.packing,
        "bit_depth": layout.bit_depth,
        "cfa": layout.cfa,
    }


def mirrored_to_rggb(frame: RawFrame) -> dict[str, Any]:
    """How a kernel has to mirror the frame, or mirror back what was made of it; see `kernels.layout.flips_to_rggb`."""
    vertical, horizontal = flips_to_rggb(frame.format.cfa)
    return {"flip_vertical": vertical, "flip_horizontal": horizontal}


def upright_window(raw_format: RawFormat) -> tuple[int, dict[str, Any]]:
    """How to read a frame as RGGB with up still up: its first row, and what the kernels are told of the rest.

    To mirror rows as well, as `mirrored_to_rggb` does, would turn the scene upside down. A restoring network does not
    mind; a detector does. So the first row and the last are left out where red is not in the first; left and right
    may be exchanged.
    """
    vertical, horizontal = flips_to_rggb(raw_format.cfa)
    letters = str(raw_format.cfa.value)
    return int(vertical), {
        "width": raw_format.width,
        "height": raw_format.height - 2 * vertical,
        "packing": raw_format.packing,
        "bit_depth": raw_format.bit_depth,
        "cfa": letters[2:] + letters[:2] if vertical else letters,
        "flip_horizontal": horizontal,
    }


def levels(frame: RawFrame) -> tuple[Any, ...]:
    """What an encoding table depends on, but for the gains."""
    return (frame.format.bit_depth, frame.format.cfa, frame.black_level, frame.white_level)


def frame_tables(
    frame: RawFrame, gains: tuple[float, float, float], source: TensorCard, *, lens_gain: float = 1.0
) -> NDArray[np.int8]:
    """The tables from the frame's codes to a model's input, see `kernels.tables.encoding_table`."""
    return encoding_table(
        bit_depth=frame.format.bit_depth,
        black_level=frame.black_level,
        white_level=frame.white_level,
        gains=gains,
        curve=source.curve,
        scale=source.scale,
        zero_point=source.zero_point,
        lens_gain=lens_gain,
    )


def verify_task(card: ModelCard, task: str) -> None:
    """Raises ModelError where a card is of another task."""
    verify_told(card, ("task", task, card.task))


def verify_input(card: ModelCard, *, layout: str, channels: int) -> None:
    """Raises ModelError where a card asks for an input that is not what its task makes."""
    source = card.input
    verify_told(
        card,
        ("input layout", layout, source.layout),
        ("input channels", channels, source.shape[3]),
        ("input dtype", "int8", source.dtype),
    )
    if source.curve not in CURVES:
        raise ModelError(
            f"card of '{card.name}': input curve must be one of {', '.join(CURVES)}, found '{source.curve}'"
        )


def verify_told(card: ModelCard, *entries: tuple[str, object, object]) -> None:
    """Raises ModelError for the first of (what, expected, found) that differs."""
    for what, expected, found in entries:
        if found != expected:
            raise ModelError(f"card of '{card.name}': {what} must be '{expected}', found '{found}'")


def verify_tensors(card: ModelCard, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
    """Raises ModelError where a loaded model's tensors are not what its card says."""
    for what, tensors, told in (("input", inputs, (card.input,)), ("output", outputs, card.outputs)):
        if len(tensors) != len(told):
            number = "one" if len(told) == 1 else str(len(told))
            raise ModelError(
                f"{card.path}: expected {number} {what}{'s' if len(told) > 1 else ''}, found {len(tensors)}"
            )
        for place, (tensor, expected) in enumerate(zip(tensors, told, strict=True)):
            which = f" {place}" if len(told) > 1 else ""
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
