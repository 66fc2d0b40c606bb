"""How good detections are: COCO's mean average precision, its bootstrap over images, the agreement of two methods."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from edge_isp.training.detector.labels import Boxes

# Of `agreement`: a detection of at least this confidence must be found again, by one of at least that.
SURE, _FOUND_AGAIN = 0.3, 0.2
_SAME_PLACE = 0.5


@dataclass(frozen=True, slots=True)
class Precision:
    """COCO's figures, in percent.

    Attributes:
        ap: average precision over IoU 0.5 to 0.95.
        ap50: average precision at IoU 0.5.
        ar100: average recall of 100 detections.
        ap_small: `ap` of objects below 32x32 pixels, by the area of their boxes; None where there are none.
        ap_medium: of those between.
        ap_large: of those from 96x96 pixels on.
    """

    ap: float
    ap50: float
    ar100: float
    ap_small: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None


def mean_average_precision(
    truth: Mapping[str, Boxes], found: Mapping[str, Boxes], images: Sequence[str] | None = None
) -> Precision:
    """COCO's evaluation of detections by image.

    Args:
        truth: labels by image.
        found: detections by image.
        images: which, by default all; one that is named twice counts twice.
    """
    names = list(truth) if images is None else list(images)
    annotations = [
        {
            "id": 0,
            "image_id": i,
            "category_id": int(class_id),
            "bbox": _xywh(xyxy),
            "area": float((xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1])),
            "iscrowd": 0,
        }
        for i, name in enumerate(names)
        for xyxy, class_id in zip(truth[name].xyxy, truth[name].class_id, strict=True)
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    classes = sorted({int(class_id) for name in names for class_id in truth[name].class_id})
    results = [
        {"image_id": i, "category_id": int(class_id), "bbox": _xywh(xyxy), "score": float(score)}
        for i, name in enumerate(names)
        for xyxy, class_id, score in zip(found[name].xyxy, found[name].class_id, found[name].confidence, strict=True)
    ]
    if not results or not annotations:
        return Precision(0.0, 0.0, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # COCO's evaluation prints a table of its own
        labels = COCO()
        labels.dataset = {
            "images": [{"id": i} for i in range(len(names))],
            "annotations": annotations,
            "categories": [{"id": c} for c in classes],
        }
        labels.createIndex()
        evaluation = COCOeval_faster(labels, labels.loadRes(results), "bbox")
        evaluation.run()
    stats = evaluation.stats
    by_size = [None if stats[i] < 0 else 100 * float(stats[i]) for i in (3, 4, 5)]
    return Precision(*(100 * float(stats[i]) for i in (0, 1, 8)), *by_size)


def bootstrap(
    truth: Mapping[str, Boxes], a: Mapping[str, Boxes], b: Mapping[str, Boxes], *, rounds: int = 200, seed: int = 0
) -> tuple[float, float]:
    """The interval that holds the difference of two methods' AP, a - b, in 95 of 100 draws of the images.

    Args:
        truth: labels by image.
        a: detections by image of one method.
        b: detections by image of the other.
        rounds: number of draws.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    names = np.array(list(truth))
    differences = []
    for _ in range(rounds):
        drawn = rng.choice(names, len(names)).tolist()
        differences.append(mean_average_precision(truth, a, drawn).ap - mean_average_precision(truth, b, drawn).ap)
    low, high = np.percentile(differences, (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far one method's detections are another's.

    Attributes:
        recall: share of the reference's sure detections that are found again: the same class, at the same place.
        precision: share of the sure detections that the reference has as well.
        overlap: mean intersection over union of those found again.
        count: of the reference's sure detections.
    """

    recall: float
    precision: float
    overlap: float
    count: int


def agreement(
    reference: Mapping[str, Boxes], found: Mapping[str, Boxes], found_again: float = _FOUND_AGAIN
) -> Agreement:
    """Detections of confidence 0.3 and more, matched with the other's; IoU 0.5 is the same place.

    Args:
        reference: detections by image, or labels.
        found: detections by image that are compared with them.
        found_again: minimum confidence of a detection that another's is matched with.
    """
    again = [overlap for name in reference for overlap in _best_overlaps(reference[name], found[name], found_again)]
    known = [overlap for name in reference for overlap in _best_overlaps(found[name], reference[name], found_again)]
    matched = [overlap for overlap in again if overlap >= _SAME_PLACE]
    return Agreement(
        recall=len(matched) / max(1, len(again)),
        precision=sum(overlap >= _SAME_PLACE for overlap in known) / max(1, len(known)),
        overlap=float(np.mean(matched)) if matched else 0.0,
        count=len(again),
    )


def _best_overlaps(sure: Boxes, others: Boxes, found_again: float) -> list[float]:
    """For each sure detection the overlap with the best other of its class."""
    out = []
    possible = others.confidence >= found_again
    for xyxy, class_id in zip(sure.xyxy[sure.confidence >= SURE], sure.class_id[sure.confidence >= SURE], strict=True):
        overlaps = overlap(xyxy, others.xyxy[possible & (others.class_id == class_id)])
        out.append(float(overlaps.max(initial=0.0)))
    return out


def overlap(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of one box with others, (n,).

    Args:
        box: (4,): x0, y0, x1, y1.
        boxes: (n, 4).
    """
    size = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None)
    both = size.prod(1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - both
    result: NDArray[np.float64] = both / np.maximum(union, 1e-9)
    return result


def _xywh(xyxy: NDArray[np.float64]) -> list[float]:
    x0, y0, x1, y1 = (float(value) for value in xyxy)
    return [x0, y0, x1 - x0, y1 - y0]
