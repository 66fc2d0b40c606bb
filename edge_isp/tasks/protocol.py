"""The protocol of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import TensorInfo
from edge_isp.frame import RawFormat, RawFrame
from edge_isp.results import Detections, Picture


class Task(Protocol):
    """What a model is used for. A task is responsible for everything that the model's card says about numbers."""

    def verify(self, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
        """Compares a loaded model's tensors with its card.

        Args:
            inputs: the model's, in the file's order.
            outputs: the model's, in the file's order.

        Raises:
            ModelError: they are not what the card says.
        """
        ...

    def input_shape(self, raw_format: RawFormat) -> tuple[int, int, int, int]:
        """Shape of the input tensor for frames of a format: (1, height, width, channels).

        Args:
            raw_format: of the frames.

        Raises:
            FormatError: the model cannot take them.
        """
        ...

    def encode(self, frame: RawFrame, out: NDArray[np.int8]) -> None:
        """Encodes a frame as the input tensor, in one pass over its bytes.

        Args:
            frame: with colour gains; a pipeline gives them to frames that come without, and
                `edge_isp.metering.meter.complete_frame` does so elsewhere.
            out: int8 of `input_shape`, overwritten.

        Raises:
            FormatError: the frame has no colour gains.
        """
        ...

    def decode(
        self, outputs: Sequence[NDArray[np.int8]], frame: RawFrame, tensor: NDArray[np.int8]
    ) -> Picture | Detections:
        """Decodes the output tensors.

        Args:
            outputs: the model's, in the file's order.
            frame: that `tensor` was made of; its data may belong to the camera again.
            tensor: the input that the outputs were made of.
        """
        ...
