"""Detections drawn on a picture: boxes, names, numbers of objects, and a line of text."""

from __future__ import annotations

import colorsys
import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge_isp.errors import SinkError
from edge_isp.results import Detections, FrameResult, Picture
from edge_isp.tasks.classical import ClassicalIsp

# Widths of lines and heights of text, as parts of the picture's height.
_LINE_PER_HEIGHT, _TEXT_PER_HEIGHT = 1 / 300, 1 / 40
_SMALLEST_TEXT, _THINNEST_LINE = 11, 2


def annotate(
    picture: Picture,
    detections: Detections | None = None,
    *,
    age_ns: int | None = None,
    fps: float | None = None,
    with_supervision: bool | None = None,
) -> Picture:
    """Draws boxes, names, confidences and track numbers on a copy of a picture, the most confident on top.

    The colour is that of the class, or of the track where objects are tracked. Counts of zones and lines, the age and
    the rate stand in the upper left corner.

    Args:
        picture: of the same frame as the detections; it is not changed.
        detections: in pixels of the picture; None draws no boxes.
        age_ns: of the result, in nanoseconds, see `FrameResult.age_ns`; None writes none.
        fps: rate of the results in frames per second; None writes none.
        with_supervision: whether the package `supervision` draws the boxes; None uses it where it is installed (the
            extra [supervision]).

    Returns:
        A picture of the same frame.

    Raises:
        MissingDependencyError: `with_supervision` is true, and the package is not installed.
    """
    if with_supervision is None:
        with_supervision = importlib.util.find_spec("supervision") is not None
    line = max(_THINNEST_LINE, round(picture.rgb.shape[0] * _LINE_PER_HEIGHT))
    size = max(_SMALLEST_TEXT, round(picture.rgb.shape[0] * _TEXT_PER_HEIGHT))
    rgb = picture.rgb
    if detections is not None and len(detections):
        rgb = (_boxes_by_supervision if with_supervision else _boxes)(rgb, detections, line, size)
    caption = _caption(detections, age_ns, fps)
    if caption:
        rgb = _with_caption(rgb, caption, size)
    return replace(picture, rgb=rgb.copy() if rgb is picture.rgb else rgb)


def picture_of(result: FrameResult, developer: ClassicalIsp | None = None) -> Picture:
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
    return annotate((developer or ClassicalIsp()).develop(result.raw), result.result)


def _boxes(rgb: Any, detections: Detections, line: int, size: int) -> Any:
    image = Image.fromarray(rgb)
    canvas, font = ImageDraw.Draw(image), _font(size)
    for box, text, colour in reversed(
        list(zip(detections.xyxy.tolist(), _labels(detections), _colours(detections), strict=True))
    ):
        x0, y0, x1, y1 = (round(edge) for edge in box)
        canvas.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=line)
        _, _, width, height = canvas.textbbox((0, 0), text, font=font)
        # Above the box, or in its corner where there is no room above.
        top = y0 - height - line if y0 >= height + line else y0 + line
        canvas.rectangle((x0, top, x0 + width + 2 * line, top + height + line), fill=colour)
        canvas.text((x0 + line, top), text, fill=(0, 0, 0), font=font)
    return np.array(image)


def _boxes_by_supervision(rgb: Any, detections: Detections, line: int, size: int) -> Any:
    found = detections.to_supervision()
    import supervision

    # Looked up by the number of each detection in this frame, so that colours are the same as ours. It draws on BGR.
    palette = supervision.ColorPalette([supervision.Color(*reversed(colour)) for colour in _colours(detections)])
    lookup = np.arange(len(detections))
    scene = rgb.copy()
    scene = supervision.BoxAnnotator(color=palette, thickness=line).annotate(scene, found, custom_color_lookup=lookup)
    labels = supervision.LabelAnnotator(
        color=palette, text_color=supervision.Color(0, 0, 0), text_scale=size / 30, text_padding=line
    )
    return labels.annotate(scene, found, labels=_labels(detections), custom_color_lookup=lookup)


def _with_caption(rgb: Any, caption: list[str], size: int) -> Any:
    image = Image.fromarray(rgb)
    canvas, font, text = ImageDraw.Draw(image), _font(size), "\n".join(caption)
    x0, y0, x1, y1 = canvas.multiline_textbbox((size // 2, size // 2), text, font=font)
    canvas.rectangle((x0 - size // 3, y0 - size // 3, x1 + size // 3, y1 + size // 3), fill=(0, 0, 0))
    canvas.multiline_text((size // 2, size // 2), text, fill=(255, 255, 255), font=font)
    return np.array(image)


def _caption(detections: Detections | None, age_ns: int | None, fps: float | None) -> list[str]:
    numbers = [
        *([] if fps is None else [f"{fps:.1f} frames/s"]),
        *([] if age_ns is None else [f"{age_ns / 1e6:.0f} ms old"]),
    ]
    caption = [", ".join(numbers)] if numbers else []
    if detections is not None:
        caption += [f"{zone.name}: {zone.present} present, {zone.entered} entered" for zone in detections.zones]
        caption += [f"{line.name}: {line.to_right} to the right, {line.to_left} left" for line in detections.lines]
    return caption


def _labels(detections: Detections) -> list[str]:
    return [
        f"{'' if track is None else f'#{track} '}{name} {confidence:.2f}"
        for track, name, confidence in zip(detections.tracks, detections.names, detections.confidence, strict=True)
    ]


def _colours(detections: Detections) -> list[tuple[int, int, int]]:
    return [
        _colour(int(class_id) if track is None else track)
        for class_id, track in zip(detections.class_id, detections.tracks, strict=True)
    ]


def _colour(number: int) -> tuple[int, int, int]:
    """A bright colour; those of neighbouring numbers differ much (steps of the golden ratio around the circle)."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _font(size: int) -> Any:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # before Pillow 10.1 there is only one size
        return ImageFont.load_default()
