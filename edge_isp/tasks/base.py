"""The protocol of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from edge_isp.engines.base import TensorInfo
from edge_isp.frame import RawFormat, RawFrame


class Task(Protocol):
    """What a model is for: turns frames into its input and its output into results, as its card says.

    `encode` and `decode` are called from two threads, each from one.
    """

    def verify(self, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
        """Raises ModelError where a loaded model's tensors are not what its card says."""
        ...

    def input_shape(self, raw_format: RawFormat) -> tuple[int, ...]:
        """Shape of the input tensor for frames of a format."""
        ...

    def encode(self, frame: RawFrame, out: NDArray[Any]) -> None:
        """Frame to input tensor, of `input_shape`."""
        ...

    def decode(self, outputs: Sequence[NDArray[Any]], frame: RawFrame, tensor: NDArray[Any]) -> Any:
        """Output tensors to a result.

        Args:
            frame: for what is known of it; its data is the camera's again.
            tensor: the input that the output was made of.
        """
        ...
