"""The task for a model's card."""

from __future__ import annotations

from collections.abc import Sequence

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import ModelError
from edge_isp.models.card import ModelCard
from edge_isp.tasks.detect import (
    DEFAULT_CONFIDENCE,
    DEFAULT_IOU,
    DEFAULT_MAX_DETECTIONS,
    DetectTask,
    Region,
)
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
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    classes: Sequence[str] = (),
    min_size: float = 0,
    regions: Sequence[Region] = (),
    class_agnostic: bool = False,
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
        iou_threshold: see `DetectTask`; None is its default.
        max_detections: see `DetectTask`; None is its default.
        classes: see `DetectTask`.
        min_size: see `DetectTask`.
        regions: see `DetectTask`.
        class_agnostic: see `DetectTask`.

    Raises:
        ModelError: the card's task is unknown, cannot do what is asked, or the card does not fit it.
        ProfileError: see `IspTask`.
    """
    if card.task == "isp":
        detectors = {
            "input size": input_size,
            "confidence": confidence,
            "iou threshold": iou_threshold,
            "max detections": max_detections,
            "classes": classes or None,
            "min size": min_size or None,
            "regions": regions or None,
            "class-agnostic suppression": class_agnostic or None,
        }
        if given := [name for name, value in detectors.items() if value is not None]:
            raise ModelError(
                f"'{card.name}' makes pictures of the frames' own size: input size and confidence are a detector's, "
                f"and so are classes, sizes, regions and duplicates of detections; found {', '.join(given)}"
            )
        return IspTask(
            card, profile=profile, correct_shading=correct_shading, correct_defects=correct_defects, tone=tone
        )
    if card.task == "detector":
        if correct_shading:
            raise ModelError(f"'{card.name}' is a detector, which takes lens shading as it comes: it is not corrected")
        return DetectTask(
            card,
            input_size=input_size,
            confidence=DEFAULT_CONFIDENCE if confidence is None else confidence,
            iou_threshold=DEFAULT_IOU if iou_threshold is None else iou_threshold,
            max_detections=DEFAULT_MAX_DETECTIONS if max_detections is None else max_detections,
            classes=classes,
            min_size=min_size,
            regions=regions,
            class_agnostic=class_agnostic,
        )
    raise ModelError(f"card of '{card.name}': task must be one of isp, detector, found '{card.task}'")
