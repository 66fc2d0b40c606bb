"""Detections drawn on a picture of their frame. The detector itself needs no picture, so one is made only for this."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge_isp.errors import SinkError
from edge_isp.results import Detections, FrameResult, Picture
from edge_isp.tasks.classical import ClassicalIsp

# Widths of lines and heights of text, as parts of the picture's height.
_LINE_PER_HEIGHT, _TEXT_PER_HEIGHT = 1 / 300, 1 / 40
_SMALLEST_TEXT = 11


def annotate(result: FrameResult, developer: ClassicalIsp | None = None) -> Picture:
    """A picture of a result: the picture itself, or a detector's boxes on a picture of their frame.

    Args:
        result: a detector's must have `raw`: ask the pipeline for it with `keep_raw=True`.
        developer: makes the picture from the RAW frame; None uses the shipped profile of the frame's sensor. One that
            is kept saves making its tables for each frame.

    Raises:
        SinkError: the result of a detector has no RAW frame.
    """
    if isinstance(result.result, Picture):
        return result.result
    if result.raw is None:
        raise SinkError(
            f"{result.source}: the detections in frame {result.sequence} cannot be drawn without the frame: give the "
            "consumer keep_raw=True (a sink: needs_raw = True)"
        )
    return draw(result.result, (developer or ClassicalIsp()).develop(result.raw))


def draw(detections: Detections, picture: Picture) -> Picture:
    """The picture with boxes, names and confidences, the best on top.

    Args:
        detections: in pixels of the picture.
        picture: of the same frame; it is not changed.
    """
    image = Image.fromarray(picture.rgb)
    canvas = ImageDraw.Draw(image)
    line = max(2, round(picture.rgb.shape[0] * _LINE_PER_HEIGHT))
    font = _font(max(_SMALLEST_TEXT, round(picture.rgb.shape[0] * _TEXT_PER_HEIGHT)))
    for box, confidence, class_id, name in reversed(
        list(zip(detections.xyxy.tolist(), detections.confidence, detections.class_id, detections.names, strict=True))
    ):
        colour = _class_colour(int(class_id))
        x0, y0, x1, y1 = (round(edge) for edge in box)
        canvas.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=line)
        text = f"{name} {confidence:.2f}"
        _, _, width, height = canvas.textbbox((0, 0), text, font=font)
        # Above the box, or in its corner where there is no room above.
        top = y0 - height - line if y0 >= height + line else y0 + line
        canvas.rectangle((x0, top, x0 + width + 2 * line, top + height + line), fill=colour)
        canvas.text((x0 + line, top), text, fill=(0, 0, 0), font=font)
    return Picture(np.array(image), picture.source, picture.sequence, picture.timestamp_ns)


def _class_colour(class_id: int) -> tuple[int, int, int]:
    """A bright colour; neighbouring classes differ much (steps of the golden ratio around the circle)."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * 0.618034 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _font(size: int) -> Any:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # before Pillow 10.1 there is only one size
        return ImageFont.load_default()
