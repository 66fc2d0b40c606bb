"""The protocol of a task, and the task for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import SensorProfile
from edge_isp.engines.base import TensorInfo
from edge_isp.errors import ModelError
from edge_isp.frame import RawFormat, RawFrame
from edge_isp.models.card import ModelCard
from edge_isp.results import Detections, Picture
from edge_isp.tasks.detect import DetectTask
from edge_isp.tasks.isp import IspTask


class Task(Protocol):
    """What a model is used for; owns everything that the model's card says about numbers."""

    def verify(self, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
        """Raises ModelError where a loaded model's tensors are not what the card says."""
        ...

    def input_shape(self, raw_format: RawFormat) -> tuple[int, int, int, int]:
        """Shape of the input tensor for frames of a format.

        Raises:
            FormatError: the model cannot take them.
        """
        ...

    def encode(self, frame: RawFrame, out: NDArray[np.int8]) -> None:
        """Frame to input tensor."""
        ...

    def decode(
        self, outputs: Sequence[NDArray[np.int8]], frame: RawFrame, tensor: NDArray[np.int8]
    ) -> Picture | Detections:
        """Output tensors to result; `tensor` is the input that they were made of."""
        ...


def task_for(
    card: ModelCard,
    *,
    profile: SensorProfile | None = None,
    correct_shading: bool = False,
    input_size: int | None = None,
    confidence: float | None = None,
) -> Task:
    """The task of a model.

    Args:
        profile, correct_shading: see `IspTask`.
        input_size, confidence: see `DetectTask`; None stands for the default.

    Raises:
        ModelError: no task of the card's is known, it cannot do what is asked, or the card is not what it needs.
        ProfileError: see `IspTask`.
    """
    if card.task == "isp":
        if input_size is not None or confidence is not None:
            raise ModelError(
                f"'{card.name}' makes pictures of the frames' own size: input size and confidence are a detector's"
            )
        return IspTask(card, profile=profile, correct_shading=correct_shading)
    if card.task == "detector":
        if correct_shading:
            raise ModelError(f"'{card.name}' is a detector, which takes lens shading as it comes: it is not corrected")
        given: dict[str, Any] = {} if confidence is None else {"confidence": confidence}
        return DetectTask(card, input_size=input_size, **given)
    raise ModelError(f"card of '{card.name}': task must be one of isp, detector, found '{card.task}'")
