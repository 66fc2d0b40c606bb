"""Detections drawn on a picture of their frame. The detector itself needs no picture, so one is made for this alone."""

from __future__ import annotations

import colorsys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edge_isp.frame import RawFrame
from edge_isp.results import Detections, Picture
from edge_isp.tasks.protocol import Task

# Lines and text for a picture so high; larger ones get larger ones.
_LINE_PER_HEIGHT, _TEXT_PER_HEIGHT = 1 / 300, 1 / 40
_SMALLEST_TEXT = 11

# More frames than a pipeline has between its encoder and its decoder: one waits for the engine, one is inferred, one
# waits and one is decoded.
_FRAMES_ON_THEIR_WAY = 8


@dataclass(frozen=True, slots=True)
class DetectionsOfFrame(Detections):
    """Detections, and a copy of the frame that they were found in."""

    frame: RawFrame


class FrameKeeping:
    """A detector's task that copies the frame's bytes while they are leased, so that it can be developed later."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.verify, self.input_shape = task.verify, task.input_shape
        self._frames: deque[RawFrame] = deque(maxlen=_FRAMES_ON_THEIR_WAY)

    def encode(self, frame: RawFrame, out: NDArray[np.int8]) -> None:
        """See `Task.encode`."""
        self._task.encode(frame, out)
        self._frames.append(replace(frame, data=frame.data.copy(), on_release=None))

    def decode(
        self, outputs: Sequence[NDArray[np.int8]], frame: RawFrame, tensor: NDArray[np.int8]
    ) -> Picture | Detections:
        """See `Task.decode`."""
        found = self._task.decode(outputs, frame, tensor)
        if not isinstance(found, Detections):
            return found
        told = {field.name: getattr(found, field.name) for field in fields(found)}
        of = (frame.source, frame.sequence)
        kept = next(kept for kept in reversed(tuple(self._frames)) if (kept.source, kept.sequence) == of)
        return DetectionsOfFrame(**told, frame=kept)


def draw(detections: Detections, picture: Picture) -> Picture:
    """The picture with boxes, names and confidences, the best on top."""
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
    """A bright colour; neighbouring classes differ as much as can be (steps of the golden ratio around the circle)."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * 0.618034 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _font(size: int) -> Any:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # before Pillow 10.1 there is one size only
        return ImageFont.load_default()
