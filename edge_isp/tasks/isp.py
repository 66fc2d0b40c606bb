"""RAW to RGB: the task of a model that replaces the image signal processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import normalise_gains
from edge_isp.engines.base import TensorInfo
from edge_isp.errors import ModelError
from edge_isp.frame import RawFormat, RawFrame
from edge_isp.kernels.decode import decode_rgb, output_table
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import flips_to_rggb
from edge_isp.kernels.statistics import statistics
from edge_isp.kernels.tables import CURVES, encoding_table
from edge_isp.models.card import ModelCard, TensorCard
from edge_isp.results import Picture


class IspTask:
    """Encodes frames for a RAW-to-RGB model and decodes its pictures, as the model's card says.

    Frames of every CFA order are mirrored to RGGB on their way in, and the picture back (see
    `kernels.layout.flips_to_rggb`).

    Raises:
        ModelError: the card is of another task, or asks for what this version does not know.
    """

    def __init__(self, card: ModelCard) -> None:
        expected = {"task": "isp", "input layout": "rggb", "input channels": 4, "output layout": "planes12"}
        found = {
            "task": card.task,
            "input layout": card.input.layout,
            "input channels": card.input.shape[3],
            "output layout": card.output.layout,
        }
        expected |= {"output channels": 12, "input dtype": "int8", "output dtype": "int8"}
        found |= {
            "output channels": card.output.shape[3],
            "input dtype": card.input.dtype,
            "output dtype": card.output.dtype,
        }
        for what, value in expected.items():
            if found[what] != value:
                raise ModelError(f"card of '{card.name}': {what} must be '{value}', found '{found[what]}'")
        if card.input.curve not in CURVES:
            raise ModelError(
                f"card of '{card.name}': input curve must be one of {', '.join(CURVES)}, found '{card.input.curve}'"
            )
        self.card = card
        self._output_table = output_table(card.output.scale, card.output.zero_point)
        self._tables: NDArray[Any] | None = None
        self._tables_of: tuple[Any, ...] | None = None

    def verify(self, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
        """Raises ModelError where a loaded model's tensors are not what the card says."""
        for what, tensors, card in (("input", inputs, self.card.input), ("output", outputs, self.card.output)):
            if len(tensors) != 1:
                raise ModelError(f"{self.card.path}: expected one {what}, found {len(tensors)}")
            _verify_tensor(f"{self.card.path}: {what}", tensors[0], card)

    def input_shape(self, raw_format: RawFormat) -> tuple[int, int, int, int]:
        """Shape of the input tensor for frames of a format."""
        return (1, raw_format.height // 2, raw_format.width // 2, 4)

    def encode(self, frame: RawFrame, out: NDArray[np.int8]) -> None:
        """Frame to input tensor, int8 of `input_shape`; see `kernels.encode.encode`."""
        flip_vertical, flip_horizontal = flips_to_rggb(frame.format.cfa)
        encode(
            frame.data,
            out[0],
            width=frame.format.width,
            height=frame.format.height,
            packing=frame.format.packing,
            bit_depth=frame.format.bit_depth,
            cfa=frame.format.cfa,
            tables=self._tables_for(frame),
            flip_vertical=flip_vertical,
            flip_horizontal=flip_horizontal,
        )

    def decode(self, outputs: Sequence[NDArray[np.int8]], frame: RawFrame) -> Picture:
        """Output tensor to picture, of the frame's size."""
        rgb = np.empty((frame.format.height, frame.format.width, 3), np.uint8)
        flip_vertical, flip_horizontal = flips_to_rggb(frame.format.cfa)
        decode_rgb(outputs[0][0], rgb, self._output_table, flip_vertical=flip_vertical, flip_horizontal=flip_horizontal)
        return Picture(rgb, frame.source, frame.sequence, frame.timestamp_ns)

    def _tables_for(self, frame: RawFrame) -> NDArray[Any]:
        red, blue = frame.colour_gains or _grey_world(frame)
        gains = normalise_gains(red, 1.0, blue)
        key = (frame.format.bit_depth, frame.black_level, frame.white_level, gains)
        if self._tables is None or key != self._tables_of:
            self._tables = encoding_table(
                bit_depth=frame.format.bit_depth,
                black_level=frame.black_level,
                white_level=frame.white_level,
                gains=gains,
                curve=self.card.input.curve,
                scale=self.card.input.scale,
                zero_point=self.card.input.zero_point,
            )
            self._tables_of = key
        return self._tables


def _grey_world(frame: RawFrame) -> tuple[float, float]:
    layout = frame.format
    return statistics(
        frame.data,
        width=layout.width,
        height=layout.height,
        packing=layout.packing,
        bit_depth=layout.bit_depth,
        cfa=layout.cfa,
        black_level=frame.black_level,
        white_level=frame.white_level,
    ).grey_world_gains


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
