"""The task for a model's card."""

from __future__ import annotations

from typing import Any

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import ModelError
from edge_isp.models.card import ModelCard
from edge_isp.tasks.detect import DetectTask
from edge_isp.tasks.isp import IspTask
from edge_isp.tasks.protocol import Task


def task_for(
    card: ModelCard,
    *,
    profile: SensorProfile | None = None,
    correct_shading: bool | None = None,
    correct_defects: bool = True,
    tone: str = "camera",
    input_size: int | None = None,
    confidence: float | None = None,
) -> Task:
    """The task of a model.

    Args:
        card: the model's.
        profile: see `IspTask`; a detector ignores it.
        correct_shading: see `IspTask`.
        correct_defects: see `IspTask`; a detector's frames stay as they are.
        tone: see `IspTask`; a detector ignores it.
        input_size: see `DetectTask`; None is the model's own.
        confidence: see `DetectTask`; None is its default.

    Raises:
        ModelError: the card's task is unknown, cannot do what is asked, or the card does not fit it.
        ProfileError: see `IspTask`.
    """
    if card.task == "isp":
        if input_size is not None or confidence is not None:
            raise ModelError(
                f"'{card.name}' makes pictures of the frames' own size: input size and confidence are a detector's"
            )
        return IspTask(
            card, profile=profile, correct_shading=correct_shading, correct_defects=correct_defects, tone=tone
        )
    if card.task == "detector":
        if correct_shading:
            raise ModelError(f"'{card.name}' is a detector, which takes lens shading as it comes: it is not corrected")
        given: dict[str, Any] = {} if confidence is None else {"confidence": confidence}
        return DetectTask(card, input_size=input_size, **given)
    raise ModelError(f"card of '{card.name}': task must be one of isp, detector, found '{card.task}'")
