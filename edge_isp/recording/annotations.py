"""Detections as messages of a recording: exactly, and as Foxglove draws them over the previews."""

from __future__ import annotations

import colorsys
from typing import Any

from edge_isp.results import Detections

# Foxglove's PointsAnnotationType LINE_LOOP.
_LINE_LOOP = 2
_FONT, _THICKNESS = 12.0, 2.0
_BLACK = {"r": 0.0, "g": 0.0, "b": 0.0, "a": 1.0}
_NONE = {"r": 0.0, "g": 0.0, "b": 0.0, "a": 0.0}


def detections_message(detections: Detections, model: str, width: int, height: int) -> dict[str, Any]:
    """A message `edge_isp.Detections`.

    Args:
        detections: of one frame.
        model: that found them.
        width: of the upright frame, in pixels.
        height: of the upright frame, in pixels.
    """
    return {
        "sequence": detections.sequence,
        "timestamp_ns": detections.timestamp_ns,
        "model": model,
        "width": width,
        "height": height,
        "detections": [
            {"name": name, "class_id": int(class_id), "confidence": float(confidence), "xyxy": box}
            for name, class_id, confidence, box in zip(
                detections.names, detections.class_id, detections.confidence, detections.xyxy.tolist(), strict=True
            )
        ],
    }


def annotations_message(detections: Detections, scale: float, stamp_ns: int) -> dict[str, Any]:
    """A message `foxglove.ImageAnnotations`.

    Args:
        detections: of one frame, in its pixels.
        scale: of the preview that they are drawn over.
        stamp_ns: time of the frame, nanoseconds of UTC.
    """
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = {"sec": seconds, "nsec": nanoseconds}
    points, texts = [], []
    for name, class_id, confidence, box in zip(
        detections.names, detections.class_id, detections.confidence, detections.xyxy.tolist(), strict=True
    ):
        x0, y0, x1, y1 = (scale * edge for edge in box)
        colour = _colour(int(class_id))
        points.append(
            {
                "timestamp": stamp,
                "type": _LINE_LOOP,
                "points": [{"x": x, "y": y} for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))],
                "outline_color": colour,
                "outline_colors": [],
                "fill_color": _NONE,
                "thickness": _THICKNESS,
                "metadata": [],
            }
        )
        texts.append(
            {
                "timestamp": stamp,
                "position": {"x": x0, "y": y0},
                "text": f"{name} {confidence:.2f}",
                "font_size": _FONT,
                "text_color": _BLACK,
                "background_color": colour,
                "metadata": [],
            }
        )
    return {"circles": [], "points": points, "texts": texts}


def _colour(class_id: int) -> dict[str, float]:
    """A bright colour; neighbouring classes differ much (steps of the golden ratio around the circle)."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * 0.618034 % 1, 0.75, 1.0)
    return {"r": red, "g": green, "b": blue, "a": 1.0}
