"""A result as plain values, for JSON: what `edge-isp run --json` and the live view write of it."""

from __future__ import annotations

from typing import Any

from edge_isp.frame import FrameStatus
from edge_isp.results import Detections, FrameResult, Picture


def result_json(done: FrameResult) -> dict[str, Any]:
    """A result without its pixels, as dictionaries, lists, texts and numbers.

    Args:
        done: the result.

    Returns:
        The frame's source, number and time; the size of the picture, or of the frame that boxes lie in; model,
        delegate, status and times; of a detector the detections, and the counts of zones and lines where there are any.
    """
    result = done.result
    size = result.size if isinstance(result, Detections) else (result.rgb.shape[1], result.rgb.shape[0])
    line: dict[str, Any] = {
        "source": result.source,
        "sequence": result.sequence,
        "timestamp_ns": result.timestamp_ns,
    }
    if size is not None:
        line |= {"width": size[0], "height": size[1]}
    line |= {
        "model": done.model,
        "delegate": done.delegate,
        "status": [flag.name for flag in FrameStatus if flag in done.status],
        "stages_ns": done.stages_ns,
        "queued_ns": done.queued_ns,
        "age_ns": done.age_ns,
    }
    return line if isinstance(result, Picture) else line | _found(result)


def _found(result: Detections) -> dict[str, Any]:
    """Detections and counts. A detection has a "track" only where objects are tracked."""
    tracked = result.track_id is not None
    found: dict[str, Any] = {
        "detections": [
            {
                "box": [round(edge, 2) for edge in box],
                "confidence": round(float(confidence), 4),
                "class_id": int(class_id),
                "class_name": name,
            }
            | ({"track": track} if tracked else {})
            for box, confidence, class_id, name, track in zip(
                result.xyxy.tolist(), result.confidence, result.class_id, result.names, result.tracks, strict=True
            )
        ]
    }
    if result.zones:
        found["zones"] = [{"name": z.name, "present": z.present, "entered": z.entered} for z in result.zones]
    if result.lines:
        found["lines"] = [{"name": x.name, "to_right": x.to_right, "to_left": x.to_left} for x in result.lines]
    return found
