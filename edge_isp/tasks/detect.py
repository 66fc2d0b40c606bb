"""RAW to boxes: the task of a model that detects objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import TensorInfo
from edge_isp.errors import ModelError, did_you_mean, shortened
from edge_isp.frame import RawFormat, RawFrame
from edge_isp.kernels.detect import candidates, check_limits, level_tables, suppress
from edge_isp.kernels.resample import encode_resampled, letterbox
from edge_isp.models.card import ModelCard, TensorCard
from edge_isp.orientation import upright_size
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

# What is kept where nothing else is asked for: the minimum confidence, the overlap from which on a box is a duplicate,
# and the number of detections.
DEFAULT_CONFIDENCE, DEFAULT_IOU, DEFAULT_MAX_DETECTIONS = 0.3, 0.45, 100

# x0, y0, x1, y1 in parts of the picture's width and height.
Region = tuple[float, float, float, float]

# In the comparison of two engines: the number of cells of the network that are most certain of an object.
_COMPARED_CELLS = 100

# Channels of a level's outputs by their layout; classes are as many as the card names.
_BOX, _OBJECTNESS, _CLASS = _LAYOUTS = ("box", "objectness", "class")


class DetectTask:
    """Encodes frames for a detector and decodes its boxes, as the model's card says.

    A frame is made smaller while it is encoded, with its proportions kept, and placed in the middle of the input; a
    frame that is smaller than the input keeps its size. Boxes are returned in the sensor's pixels. The network sees
    frames of every CFA order as RGGB, and turned frames upright (see `tasks.encoding.upright_window`).

    Args:
        card: of the model.
        input_size: width and height in pixels of the mosaic that the network sees; None is the card's.
        confidence: minimum confidence of a detection, 0 to 1.
        iou_threshold: a box that overlaps a better one of its class by more than this (intersection over union) is
            dropped.
        max_detections: at most this many are kept, the best ones.
        classes: names of the classes that count; empty for all.
        min_size: minimum width and height of a box, in pixels of the sensor.
        regions: rectangles (x0, y0, x1, y1) in parts of the picture's width and height; only objects count whose middle
            lies in one of them. Empty for the whole picture.
        class_agnostic: whether a better box of any class makes a box a duplicate, not only one of its own.

    Raises:
        ModelError: the card is of another task, asks for something that this version does not know, the input size
            does not fit the model, or it does not know a class.
        ValueError: a threshold or a region is out of range.
    """

    def __init__(
        self,
        card: ModelCard,
        *,
        input_size: int | None = None,
        confidence: float = DEFAULT_CONFIDENCE,
        iou_threshold: float = DEFAULT_IOU,
        max_detections: int = DEFAULT_MAX_DETECTIONS,
        classes: Sequence[str] = (),
        min_size: float = 0,
        regions: Sequence[Region] = (),
        class_agnostic: bool = False,
    ) -> None:
        _verify_card(card)
        check_limits(iou_threshold, max_detections)
        if not 0 <= min_size < np.inf:
            raise ValueError(f"min_size must be a number of pixels, at least 0, found {min_size}")
        self.card = card
        self._class_ids = _class_ids(card, classes)
        self._min_size, self._class_agnostic = min_size, class_agnostic
        self._regions = np.array([check_region(region) for region in regions], np.float64).reshape(-1, 4)
        self._input_shape = _input_shape(card, input_size)
        self._iou_threshold, self._max_detections = iou_threshold, max_detections
        self._border = _border_code(card.input)
        places = {(output.stride, output.layout): place for place, output in enumerate(card.outputs)}
        strides = sorted({output.stride for output in card.outputs})
        # For each level the places of its outputs in the file.
        self._places = [tuple(places[stride, layout] for layout in _LAYOUTS) for stride in strides]
        self._levels = [
            level_tables(
                stride,
                box=_quantisation(card.outputs[box]),
                objectness=_quantisation(card.outputs[objectness]),
                classes=_quantisation(card.outputs[classes]),
                confidence=confidence,
            )
            for stride, (box, objectness, classes) in zip(strides, self._places, strict=True)
        ]
        self._tables: NDArray[np.int8] | None = None
        self._tables_of: tuple[Any, ...] | None = None

    def verify(self, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
        """See `Task.verify`."""
        verify_tensors(self.card, inputs, outputs)

    def input_shape(self, raw_format: RawFormat) -> tuple[int, int, int, int]:
        """See `Task.input_shape`: the same for every format."""
        return self._input_shape

    def encode(self, frame: RawFrame, out: NDArray[np.int8]) -> None:
        """See `Task.encode`, and `kernels.resample.encode_resampled` for how it is done."""
        window = upright_window(frame.format, frame.orientation)
        mosaic = np.empty((out.shape[2], out.shape[1], out.shape[3]), np.int8) if window.exchanged else out[0]
        encode_resampled(
            frame.data[window.first_row :],
            mosaic,
            window.layout,
            tables=self._tables_for(frame),
            border=self._border,
            flip_vertical=window.flip_vertical,
            flip_horizontal=window.flip_horizontal,
            second_column=bool(window.first_column),
        )
        if window.exchanged:  # the greens too: what shares its row with red shares its column then
            for target, plane in enumerate((0, 2, 1, 3)):
                out[0, :, :, target] = mosaic[:, :, plane].T

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
        found, confidence, class_id = candidates(by_level, self._levels)
        boxes = _to_sensor(found, frame, (tensor.shape[1], tensor.shape[2]))
        size = upright_size(frame.format.width, frame.format.height, frame.orientation)
        # What does not count neither makes duplicates nor takes the place of something that does.
        if len(counts := np.flatnonzero(self._counts(boxes, class_id, size))) < len(boxes):
            found, boxes, confidence, class_id = found[counts], boxes[counts], confidence[counts], class_id[counts]
        kept = suppress(
            found,
            confidence,
            np.zeros_like(class_id) if self._class_agnostic else class_id,
            iou_threshold=self._iou_threshold,
            max_detections=self._max_detections,
        )
        boxes, confidence, class_id = boxes[kept], confidence[kept], class_id[kept]
        # Objects found only in the border are not in the frame.
        inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return Detections(
            boxes[inside],
            confidence[inside],
            class_id[inside],
            self.card.classes,
            frame.source,
            frame.sequence,
            frame.timestamp_ns,
            applied=applied_to_detector(frame),
            size=size,
        )

    def compare_results(self, found: Sequence[NDArray[np.int8]], reference: Sequence[NDArray[np.int8]]) -> str:
        """Compares two engines' outputs for one frame where there may be objects, for the check of an NPU.

        Args:
            found: the NPU's outputs, in the order of the card.
            reference: the CPU's.

        Returns:
            Why they are not the same detections, see `DetectionAgreement`; "" where they are.
        """
        scores, differences = [], []
        for (box, objectness, classes), level in zip(self._places, self._levels, strict=True):
            # Of each cell: the score and the best class on the CPU, and what is off.
            logits = reference[classes].reshape(-1, len(self.card.classes))
            best = logits.argmax(1)[:, None]
            codes = [np.take_along_axis(logits, best, 1)[:, 0].astype(int), reference[objectness].ravel().astype(int)]
            scores.append(level.classes[codes[0] + 128] * level.objectness[codes[1] + 128])
            other = np.take_along_axis(found[classes].reshape(logits.shape), best, 1)[:, 0]
            columns = [found[box].reshape(-1, 4).astype(int) - reference[box].reshape(-1, 4)]
            columns += [(found[objectness].ravel() - codes[1])[:, None], (other - codes[0])[:, None]]
            differences.append(np.concatenate(columns, 1))
        certain = np.argsort(-np.concatenate(scores), kind="stable")[:_COMPARED_CELLS]
        off_lsb = np.median(np.concatenate(differences)[certain], 0)
        limits = self.card.detection_agreement
        allowed_lsb = [*[limits.box_lsb] * 4, limits.objectness_lsb, limits.class_lsb]
        names = ("x", "y", "width", "height", "objectness", "class")
        wrong = [
            f"{name} {off:+.1f} LSB (allowed {allowed:g})"
            for name, off, allowed in zip(names, off_lsb, allowed_lsb, strict=True)
            if not abs(off) <= allowed
        ]
        return f"where the CPU is most certain of objects, it is off by: {', '.join(wrong)}" if wrong else ""

    def _counts(
        self, boxes: NDArray[np.float32], class_id: NDArray[np.int32], size: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """Which boxes are of the classes, the size and the regions that are asked for."""
        counts = np.ones(len(boxes), np.bool_)
        if self._class_ids is not None:
            counts &= np.isin(class_id, self._class_ids)
        if self._min_size:
            counts &= np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) >= self._min_size
        if len(self._regions):
            # Each middle against the corners of each region.
            middle = ((boxes[:, :2] + boxes[:, 2:]) / 2 / np.array(size))[:, None]
            within = (middle >= self._regions[:, :2]) & (middle <= self._regions[:, 2:])
            counts &= np.any(np.all(within, axis=2), axis=1)
        return counts

    def _tables_for(self, frame: RawFrame) -> NDArray[np.int8]:
        """Made anew only when levels or gains change."""
        gains = normalised_gains(frame)
        key = (levels(frame), gains)
        if self._tables is None or key != self._tables_of:
            self._tables, self._tables_of = frame_tables(frame, gains, self.card.input), key
        return self._tables


def check_region(region: Sequence[float]) -> Region:
    """Refuses what is no rectangle within a picture.

    Args:
        region: expected to be x0, y0, x1, y1 in parts of the picture's width and height.

    Raises:
        ValueError: It is something else.
    """
    if len(region) == 4:
        x0, y0, x1, y1 = (float(value) for value in region)
        if 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1:
            return x0, y0, x1, y1
    raise ValueError(
        "a region must be x0, y0, x1, y1 in parts of the picture's width and height, with 0 <= x0 < x1 <= 1 and "
        f"0 <= y0 < y1 <= 1, found {tuple(region)}"
    )


def _class_ids(card: ModelCard, classes: Sequence[str]) -> NDArray[np.int32] | None:
    """Numbers of the classes that count, by their names; None for all."""
    if isinstance(classes, str):
        raise ModelError(f"classes must be a list of names, found the text '{shortened(classes)}'")
    for name in classes:
        if name not in card.classes:
            raise ModelError(
                f"'{card.name}' knows no class '{shortened(name)}'{did_you_mean(name, card.classes)}; "
                f"it knows {len(card.classes)}, see its card"
            )
    return np.array([card.classes.index(name) for name in classes], np.int32) if classes else None


def _border_code(source: TensorCard) -> int:
    limits = np.iinfo(source.dtype)
    return int(np.clip(np.rint(BORDER / source.scale) + source.zero_point, limits.min, limits.max))


def _to_sensor(boxes: NDArray[np.float32], frame: RawFrame, cells: tuple[int, int]) -> NDArray[np.float32]:
    """Boxes in pixels of the network's input to those of the upright frame, within it.

    Args:
        cells: height and width of the input.
    """
    window = upright_window(frame.format, frame.orientation)
    rows, columns = window.cells
    # As many rows and columns are left out at the end as at the beginning, so that flips do not matter.
    first_row, first_column = window.first_row, window.first_column
    if window.exchanged:
        rows, columns, first_row, first_column = columns, rows, first_column, first_row
    # In cells of 2x2 pixels on both sides.
    top, left, inner_height, inner_width = letterbox((rows, columns), cells)
    x = (boxes[:, 0::2] - 2 * left) * (columns / inner_width) + first_column
    y = (boxes[:, 1::2] - 2 * top) * (rows / inner_height) + first_row
    width, height = upright_size(frame.format.width, frame.format.height, frame.orientation)
    x, y = np.clip(x, 0, width), np.clip(y, 0, height)
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
