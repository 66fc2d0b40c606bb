"""RAW to boxes: the task of a model that detects objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import TensorInfo
from edge_isp.errors import FormatError, ModelError
from edge_isp.frame import RawFormat, RawFrame
from edge_isp.kernels.detect import check_limits, detect, level_tables
from edge_isp.kernels.resample import encode_resampled, letterbox
from edge_isp.models.card import ModelCard, TensorCard
from edge_isp.orientation import upright_boxes, upright_size
from edge_isp.results import Detections
from edge_isp.tasks.applied import applied_to_detector
from edge_isp.tasks.encoding import (
    frame_tables,
    levels,
    normalised_gains,
    upright_window,
    verify_entries,
    verify_input,
    verify_task,
    verify_tensors,
)

# The border around a frame whose proportions are not the input's, as a value of the input: the grey, 114 of 255, with
# which YOLOX pads pictures, and our training pads mosaics.
BORDER = 114 / 255

# Minimum confidence of a detection where none is asked for.
DEFAULT_CONFIDENCE = 0.3

# In the comparison of two engines: detections of at least this confidence must be found again; boxes that overlap by
# less than the second number (intersection over union) are kept apart, at most so many; and the outputs are wrong where
# at least so many and this share of the detections are lost.
SURE = 0.5
_NEARLY_EQUAL, _COMPARED = 0.9, 1000
_LEAST_LOST, _SHARE_LOST = 2, 0.3

# Channels of a level's outputs by their layout; classes are as many as the card names.
_BOX, _OBJECTNESS, _CLASS = _LAYOUTS = ("box", "objectness", "class")


class DetectTask:
    """Encodes frames for a detector and decodes its boxes, as the model's card says.

    A frame is made smaller while it is encoded, with its proportions kept, and placed in the middle of the input;
    boxes are returned in the sensor's pixels. Frames of every CFA order are mirrored to RGGB before they are encoded,
    and boxes are mirrored back (see `kernels.layout.flips_to_rggb`).

    Args:
        card: of the model.
        input_size: width and height in pixels of the mosaic that the network sees; None is the card's.
        confidence: minimum confidence of a detection, 0 to 1.
        iou_threshold: a box that overlaps a better one of its class by more than this (intersection over union) is
            dropped.
        max_detections: at most this many are kept, the best ones.

    Raises:
        ModelError: the card is of another task, asks for something that this version does not know, or the input size
            does not fit the model.
        ValueError: a threshold is out of range.
    """

    def __init__(
        self,
        card: ModelCard,
        *,
        input_size: int | None = None,
        confidence: float = DEFAULT_CONFIDENCE,
        iou_threshold: float = 0.45,
        max_detections: int = 100,
    ) -> None:
        _verify_card(card)
        check_limits(iou_threshold, max_detections)
        self.card = card
        self._input_shape = _input_shape(card, input_size)
        self._iou_threshold, self._max_detections = iou_threshold, max_detections
        self._border = _border_code(card.input)
        places = {(output.stride, output.layout): place for place, output in enumerate(card.outputs)}
        strides = sorted({output.stride for output in card.outputs})
        # For each level the places of its outputs in the file.
        self._places = [tuple(places[stride, layout] for layout in _LAYOUTS) for stride in strides]
        self._levels, self._comparing_levels = (
            [
                level_tables(
                    stride,
                    box=_quantisation(card.outputs[box]),
                    objectness=_quantisation(card.outputs[objectness]),
                    classes=_quantisation(card.outputs[classes]),
                    confidence=lowest,
                )
                for stride, (box, objectness, classes) in zip(strides, self._places, strict=True)
            ]
            for lowest in (confidence, SURE / 2)
        )
        self._tables: NDArray[np.int8] | None = None
        self._tables_of: tuple[Any, ...] | None = None

    def verify(self, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
        """See `Task.verify`."""
        verify_tensors(self.card, inputs, outputs)

    def input_shape(self, raw_format: RawFormat) -> tuple[int, int, int, int]:
        """See `Task.input_shape`.

        Raises:
            FormatError: the frames would have to be made larger.
        """
        _, height, width, _ = self._input_shape
        cells = upright_window(raw_format).layout.cells
        box = letterbox(cells, (height, width))
        if box[2] > cells[0] or box[3] > cells[1]:
            raise FormatError(
                f"frames of {raw_format.width}x{raw_format.height} are smaller than the {2 * width}x{2 * height} that "
                f"'{self.card.name}' is set to see; choose a smaller input size, a multiple of {self._largest_stride}"
            )
        return self._input_shape

    def encode(self, frame: RawFrame, out: NDArray[np.int8]) -> None:
        """See `Task.encode`, and `kernels.resample.encode_resampled` for how it is done."""
        window = upright_window(frame.format)
        encode_resampled(
            frame.data[window.first_row :],
            out[0],
            window.layout,
            tables=self._tables_for(frame),
            border=self._border,
            flip_horizontal=window.flip_horizontal,
        )

    def compare_results(self, found: Sequence[NDArray[np.int8]], reference: Sequence[NDArray[np.int8]]) -> str:
        """Compares two engines' outputs for one frame as detections, for the check of an NPU.

        Correct arithmetics differ in confidence and choose other ones of boxes that overlap. So a detection is lost
        where the other engine has nothing of its class at its place with half its confidence.

        Args:
            found: the NPU's outputs.
            reference: the CPU's.

        Returns:
            Why they are not the same detections; "" where they are.
        """
        mine, theirs = self._all_boxes(found), self._all_boxes(reference)
        for text, sure, others in (("are lost", theirs, mine), ("are on the NPU alone", mine, theirs)):
            certain = sure[1] >= SURE
            lost = _without_partner(sure, certain, others)
            if lost >= _LEAST_LOST and lost > _SHARE_LOST * np.count_nonzero(certain):
                return f"of {np.count_nonzero(certain)} detections above a confidence of {SURE:g}, {lost} {text}"
        return ""

    def _all_boxes(
        self, outputs: Sequence[NDArray[np.int8]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
        """Boxes, confidences and classes above half of `SURE`; overlapping ones are kept."""
        by_level = [
            (outputs[box][0], outputs[objectness][0], outputs[classes][0]) for box, objectness, classes in self._places
        ]
        return detect(by_level, self._comparing_levels, iou_threshold=_NEARLY_EQUAL, max_detections=_COMPARED)

    def decode(self, outputs: Sequence[NDArray[np.int8]], frame: RawFrame, tensor: NDArray[np.int8]) -> Detections:
        """Decodes the output tensors as detections in the sensor's pixels; see `Task.decode`.

        Args:
            outputs: in the order of the card.
            frame: that was encoded.
            tensor: the input.
        """
        by_level = [
            (outputs[box][0], outputs[objectness][0], outputs[classes][0]) for box, objectness, classes in self._places
        ]
        boxes, confidence, class_id = detect(
            by_level, self._levels, iou_threshold=self._iou_threshold, max_detections=self._max_detections
        )
        boxes = _to_sensor(boxes, frame, (tensor.shape[1], tensor.shape[2]))
        width, height = frame.format.width, frame.format.height
        # Objects found only in the border are not in the frame.
        inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return Detections(
            upright_boxes(boxes[inside], width, height, frame.orientation),
            confidence[inside],
            class_id[inside],
            self.card.classes,
            frame.source,
            frame.sequence,
            frame.timestamp_ns,
            applied=applied_to_detector(frame),
            size=upright_size(width, height, frame.orientation),
        )

    @property
    def _largest_stride(self) -> int:
        return max(level.stride for level in self._levels)

    def _tables_for(self, frame: RawFrame) -> NDArray[np.int8]:
        """Made anew only when levels or gains change."""
        gains = normalised_gains(frame)
        key = (levels(frame), gains)
        if self._tables is None or key != self._tables_of:
            self._tables, self._tables_of = frame_tables(frame, gains, self.card.input), key
        return self._tables


def _border_code(source: TensorCard) -> int:
    limits = np.iinfo(source.dtype)
    return int(np.clip(np.rint(BORDER / source.scale) + source.zero_point, limits.min, limits.max))


def _to_sensor(boxes: NDArray[np.float32], frame: RawFrame, cells: tuple[int, int]) -> NDArray[np.float32]:
    """Boxes in pixels of the network's input to the sensor's, within the frame.

    Args:
        cells: height and width of the input.
    """
    window = upright_window(frame.format)
    width, height = window.layout.width, window.layout.height
    # In cells of 2x2 pixels on both sides.
    top, left, inner_height, inner_width = letterbox(window.layout.cells, cells)
    x = (boxes[:, 0::2] - 2 * left) * (width / (2 * inner_width))
    y = (boxes[:, 1::2] - 2 * top) * (height / (2 * inner_height))
    if window.flip_horizontal:
        x = width - x[:, ::-1]
    x, y = np.clip(x, 0, width), np.clip(y + window.first_row, 0, frame.format.height)
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1).astype(np.float32)


def _quantisation(output: TensorCard) -> tuple[float, int]:
    return output.scale, output.zero_point


def _input_shape(card: ModelCard, input_size: int | None) -> tuple[int, int, int, int]:
    if input_size is None:
        return card.input.shape
    multiple = max(output.stride for output in card.outputs)
    if input_size < multiple or input_size % multiple:
        raise ModelError(f"input size of '{card.name}' must be a multiple of {multiple}, found {input_size}")
    return (1, input_size // 2, input_size // 2, card.input.shape[3])


def _verify_card(card: ModelCard) -> None:
    verify_task(card, "detector")
    verify_input(card, layout="rggb", channels=4)
    _, rows, columns, _ = card.input.shape
    for output in card.outputs:
        if output.layout not in _LAYOUTS or output.stride < 2:
            raise ModelError(
                f"card of '{card.name}': outputs must have a layout of {', '.join(_LAYOUTS)} and a stride, "
                f"found '{output.layout}' and {output.stride}"
            )
        channels = {_BOX: 4, _OBJECTNESS: 1, _CLASS: len(card.classes)}[output.layout]
        expected = (1, 2 * rows // output.stride, 2 * columns // output.stride, channels)
        what = f"output '{output.layout}' of stride {output.stride}"
        verify_entries(card, (f"shape of {what}", expected, output.shape), (f"dtype of {what}", "int8", output.dtype))
    found = sorted((output.stride, output.layout) for output in card.outputs)
    strides = {stride for stride, _ in found}
    if found != sorted((stride, layout) for stride in strides for layout in _LAYOUTS):
        listed = ", ".join(f"{layout} of {stride}" for stride, layout in found)
        raise ModelError(
            f"card of '{card.name}': each stride must have one each of {', '.join(_LAYOUTS)}; has {listed}"
        )
    multiple = max(strides)
    if 2 * rows % multiple or 2 * columns % multiple:
        raise ModelError(
            f"card of '{card.name}': an input of {rows} x {columns} cells is not a multiple of {multiple} pixels"
        )


def _without_partner(
    boxes: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]],
    chosen: NDArray[np.bool_],
    others: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]],
) -> int:
    """How many of the chosen boxes no other one of their class overlaps by half (intersection over union)."""
    lost = 0
    for box, confidence, class_id in zip(boxes[0][chosen], boxes[1][chosen], boxes[2][chosen], strict=True):
        same = others[0][(others[2] == class_id) & (others[1] >= confidence / 2)]
        sides = np.maximum(np.minimum(same[:, 2:], box[2:]) - np.maximum(same[:, :2], box[:2]), 0)
        shared = sides.prod(1)
        areas = (same[:, 2:] - same[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared
        lost += not np.any(shared > 0.5 * areas)
    return lost
