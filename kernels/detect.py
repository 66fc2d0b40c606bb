"""A detector's output to boxes: YOLOX's raw logits, in int8, decoded, sorted and suppressed.

A level of the network has a cell for every `stride` pixels of its input. The cell (x, y) predicts

    centre = ((tx + x) * stride, (ty + y) * stride)        size = (exp(tw) * stride, exp(th) * stride)
    score = sigmoid(objectness) * sigmoid(class logit)     of its best class

(Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv:2107.08430.) A logit is one of 256 codes, so that sigmoids and
exponentials are tables, and whether a cell can be a detection is a comparison of two codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_array, check_image, check_whole
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import read_only

I8Array = NDArray[np.int8]
F32Array = NDArray[np.float32]
I32Array = NDArray[np.int32]

# exp of more than this exceeds any frame, and of far more overflows float32.
HIGHEST_SIZE_LOGIT = 11.0

# In `LevelTables.lowest_class`: no class is good enough.
_NO_CLASS = 128

# Bits of a class number.
_CLASS_BITS = 16
_HIGHEST_CLASSES = 2**_CLASS_BITS

# Scores are sorted by a digit of 11 bits at a time, in three passes.
_DIGIT_BITS, _DIGITS = 11, 3


class LevelTables(NamedTuple):
    """What the codes of a level mean, each table at code + 128; made by `level_tables`.

    Attributes:
        stride: in pixels of the network's input.
        lowest_class: int16 (256,), for a code of objectness: the lowest class code whose score is high enough, 128
            where none is.
        objectness: float32 (256,), the sigmoid of objectness.
        classes: float32 (256,), the sigmoid of a class logit.
        centre: float32 (256,), in pixels, from the cell's own position.
        size: float32 (256,), in pixels.
    """

    stride: int
    lowest_class: NDArray[np.int16]
    objectness: F32Array
    classes: F32Array
    centre: F32Array
    size: F32Array


def level_tables(
    stride: int,
    *,
    box: tuple[float, int],
    objectness: tuple[float, int],
    classes: tuple[float, int],
    confidence: float,
) -> LevelTables:
    """Tables for one level.

    Args:
        stride: in pixels of the network's input.
        box: scale and zero point of the box logits: logit = (code - zero_point) * scale.
        objectness: scale and zero point of the objectness logits.
        classes: scale and zero point of the class logits.
        confidence: minimum score of a detection, 0 to 1.

    Raises:
        ValueError: The stride is not positive, or the confidence not within 0 and 1.
    """
    if stride < 1:
        raise ValueError(f"stride must be positive, found {stride}")
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be within 0 and 1, found {confidence}")
    codes = np.arange(-128, 128, dtype=np.float64)
    box_logits, objectness_logits, class_logits = (
        (codes - zero_point) * scale for scale, zero_point in (box, objectness, classes)
    )
    objectness_table, class_table = sigmoid(objectness_logits), sigmoid(class_logits)
    enough = objectness_table[:, None] * class_table >= np.float32(confidence)
    lowest = np.where(enough.any(1), enough.argmax(1) - 128, _NO_CLASS)
    return LevelTables(
        stride,
        read_only(lowest.astype(np.int16)),
        read_only(objectness_table),
        read_only(class_table),
        read_only((box_logits * stride).astype(np.float32)),
        read_only((np.exp(np.minimum(box_logits, HIGHEST_SIZE_LOGIT)) * stride).astype(np.float32)),
    )


def sigmoid(logits: NDArray[np.float64]) -> F32Array:
    """1 / (1 + exp(-x)), without overflow for any x: a logit below -80 counts as that."""
    values: F32Array = (1 / (1 + np.exp(-np.maximum(logits, -80.0)))).astype(np.float32)
    return values


def detect(
    outputs: Sequence[tuple[I8Array, I8Array, I8Array]],
    levels: Sequence[LevelTables],
    *,
    iou_threshold: float,
    max_detections: int,
) -> tuple[F32Array, F32Array, I32Array]:
    """A network's outputs to detections, best first.

    Equal scores come in the order of level, row and column. A box is suppressed by a better one of its class, see
    `suppress`.

    Args:
        outputs: for each level box (h, w, 4), objectness (h, w, 1) and class logits (h, w, classes), int8,
            C-contiguous.
        levels: what their codes mean, in the same order.
        iou_threshold: maximum intersection over union of two boxes of a class, 0 to 1; see `suppress`.
        max_detections: how many detections to keep at most.

    Returns:
        Boxes, float32 (n, 4), as x0, y0, x1, y1 in pixels of the network's input; scores, float32 (n,); classes, int32
        (n,).

    Raises:
        ValueError: An array has the wrong shape or dtype, or a limit is out of range.
    """
    boxes, scores, class_ids = candidates(outputs, levels)
    kept = suppress(boxes, scores, class_ids, iou_threshold=iou_threshold, max_detections=max_detections)
    return boxes[kept], scores[kept], class_ids[kept]


def candidates(
    outputs: Sequence[tuple[I8Array, I8Array, I8Array]], levels: Sequence[LevelTables]
) -> tuple[F32Array, F32Array, I32Array]:
    """A network's outputs to everything that is certain enough, in the order of level, row and column.

    Args:
        outputs: see `detect`.
        levels: see `detect`.

    Returns:
        Boxes, scores and classes, see `detect`.

    Raises:
        ValueError: An array has the wrong shape or dtype.
    """
    if not outputs or len(outputs) != len(levels):
        raise ValueError(f"expected outputs of {max(len(levels), 1)} levels, found {len(outputs)}")
    cells = _check_outputs(outputs)
    for level in levels:
        _check_tables(level)
    boxes, scores = np.empty((cells, 4), np.float32), np.empty(cells, np.float32)
    class_ids = np.empty(cells, np.int32)
    count = 0
    for (box, objectness, classes), level in zip(outputs, levels, strict=True):
        count = _find_candidates(
            read_only(box), read_only(objectness), read_only(classes), level, boxes, scores, class_ids, count
        )
    return boxes[:count], scores[:count], class_ids[:count]


def _check_outputs(outputs: Sequence[tuple[I8Array, I8Array, I8Array]]) -> int:
    """The number of cells of all levels; refuses what a detector does not give."""
    if any(len(level) != 3 for level in outputs):
        raise ValueError(f"outputs must be three arrays for each level, found {[len(level) for level in outputs]}")
    check_image("outputs: class logits", outputs[0][2], (np.int8,))
    class_count = outputs[0][2].shape[2]
    if class_count > _HIGHEST_CLASSES:
        raise ValueError(f"outputs: class logits must be of at most {_HIGHEST_CLASSES} classes, found {class_count}")
    cells = 0
    for box, objectness, classes in outputs:
        height, width = check_image("outputs: box logits", box, (np.int8,), 4)
        check_array("outputs: objectness logits", objectness, np.int8, (height, width, 1))
        check_array("outputs: class logits", classes, np.int8, (height, width, class_count))
        cells += height * width
    return cells


def _check_tables(level: LevelTables) -> None:
    check_array("levels: lowest_class", level.lowest_class, np.int16, (256,))
    for name in ("objectness", "classes", "centre", "size"):
        check_array(f"levels: {name}", getattr(level, name), np.float32, (256,))


def suppress(
    boxes: F32Array, scores: F32Array, class_ids: I32Array, *, iou_threshold: float, max_detections: int
) -> NDArray[np.int64]:
    """Non-maximum suppression, each class by itself: the boxes to keep, best first; equal scores in their order.

    Args:
        boxes: float32 (n, 4), x0, y0, x1, y1.
        scores: float32 (n,), not negative.
        class_ids: int32 (n,), 0 to 65535.
        iou_threshold: a box whose intersection over union with a better kept box of its class exceeds this is dropped,
            0 to 1.
        max_detections: how many boxes to keep at most.

    Raises:
        ValueError: An array has the wrong shape or dtype, or a limit is out of range.
    """
    count = scores.size if isinstance(scores, np.ndarray) else 0
    check_array("scores", scores, np.float32, (count,))
    check_array("boxes", boxes, np.float32, (count, 4))
    check_array("class_ids", class_ids, np.int32, (count,))
    check_limits(iou_threshold, max_detections)
    if not count:
        return np.empty(0, np.int64)
    if not 0 <= class_ids.min() <= class_ids.max() < _HIGHEST_CLASSES:
        found = f"{class_ids.min()} to {class_ids.max()}"
        raise ValueError(f"class_ids must be within 0 and {_HIGHEST_CLASSES - 1}, found {found}")
    if not scores.min() >= 0:  # true of NaN as well, whose bits would be sorted as those of a great number
        raise ValueError(f"scores must not be negative, found {scores.min()}")
    kept = np.empty(min(max_detections, count), np.int64)
    return kept[: _suppress(read_only(boxes), read_only(scores), read_only(class_ids), float(iou_threshold), kept)]


def check_limits(iou_threshold: float, max_detections: int) -> None:
    """Refuses limits of `suppress` that are out of range.

    Args:
        iou_threshold: expected within 0 and 1.
        max_detections: expected to be positive.

    Raises:
        ValueError: One is not.
    """
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be within 0 and 1, found {iou_threshold}")
    check_whole("max_detections", max_detections, 1, 2**31)


@kernel
def _find_candidates(
    box: I8Array,
    objectness: I8Array,
    classes: I8Array,
    level: LevelTables,
    boxes: F32Array,
    scores: F32Array,
    class_ids: I32Array,
    count: int,
) -> int:
    """Cells of a level with a high enough score, added from `count` on; returns how many there are then."""
    height, width, _ = box.shape
    half, stride = np.float32(0.5), np.float32(level.stride)
    for y in range(height):
        for x in range(width):
            objectness_index = np.int64(objectness[y, x, 0]) + 128
            lowest = level.lowest_class[objectness_index]
            if lowest == _NO_CLASS:
                continue
            best, class_id = _best_class(classes[y, x])
            if best < lowest:
                continue
            centre_x = level.centre[np.int64(box[y, x, 0]) + 128] + np.float32(x) * stride
            centre_y = level.centre[np.int64(box[y, x, 1]) + 128] + np.float32(y) * stride
            half_width = level.size[np.int64(box[y, x, 2]) + 128] * half
            half_height = level.size[np.int64(box[y, x, 3]) + 128] * half
            boxes[count, 0], boxes[count, 1] = centre_x - half_width, centre_y - half_height
            boxes[count, 2], boxes[count, 3] = centre_x + half_width, centre_y + half_height
            scores[count] = level.objectness[objectness_index] * level.classes[np.int64(best) + 128]
            class_ids[count] = class_id
            count += 1
    return count


@kernel(inline="always")
def _best_class(logits: I8Array) -> tuple[np.int32, np.int32]:
    """The highest logit, and the first class that has it: one maximum of numbers that hold both, which vectorises."""
    bits, mask = np.int32(_CLASS_BITS), np.int32(2**_CLASS_BITS - 1)
    highest = np.int32(-(2**31))
    for k in range(len(logits)):
        highest = max(highest, np.int32((np.int32(logits[k]) << bits) | np.int32(mask - np.int32(k))))
    return np.int32(highest >> bits), np.int32(mask - np.int32(highest & mask))


@kernel
def _suppress(
    boxes: F32Array, scores: F32Array, class_ids: I32Array, iou_threshold: float, kept: NDArray[np.int64]
) -> int:
    order = _best_first(scores)
    # The kept boxes of a class are a chain, from the newest to the oldest: places in `kept`.
    newest = np.full(class_ids.max() + 1, -1, np.int64)
    older = np.empty(len(kept), np.int64)
    count = 0
    for candidate in order:
        class_id = class_ids[candidate]
        place = newest[class_id]
        while place >= 0 and not _overlap(boxes[candidate], boxes[kept[place]], iou_threshold):
            place = older[place]
        if place >= 0:
            continue
        kept[count], older[count], newest[class_id] = candidate, newest[class_id], count
        count += 1
        if count == len(kept):
            break
    return count


@kernel(inline="always")
def _overlap(a: F32Array, b: F32Array, iou_threshold: float) -> bool:
    """Whether the intersection over union is more than the threshold; in float64, as OpenCV computes it."""
    width = np.float64(min(a[2], b[2])) - np.float64(max(a[0], b[0]))
    height = np.float64(min(a[3], b[3])) - np.float64(max(a[1], b[1]))
    if width <= 0 or height <= 0:
        return False
    area_a = (np.float64(a[2]) - np.float64(a[0])) * (np.float64(a[3]) - np.float64(a[1]))
    area_b = (np.float64(b[2]) - np.float64(b[0])) * (np.float64(b[3]) - np.float64(b[1]))
    intersection = width * height
    return bool(intersection / (area_a + area_b - intersection) > iou_threshold)


@kernel
def _best_first(scores: F32Array) -> NDArray[np.uint64]:
    """Places of the scores in descending order, equal ones in theirs: a radix sort.

    The bits of floats that are not negative rise with their values; inverted they fall. numba's stable sort takes
    several times as long.
    """
    bits = scores.view(np.uint32)
    # Each entry is a score's inverted bits above its place, so that nothing is looked up while they move.
    entries, target = np.empty(len(bits), np.uint64), np.empty(len(bits), np.uint64)
    begins = np.zeros((_DIGITS, 2**_DIGIT_BITS), np.uint32)
    mask = np.uint64(2**_DIGIT_BITS - 1)
    for k in range(len(bits)):
        entry = (np.uint64(~bits[k] & np.uint32(2**32 - 1)) << np.uint64(32)) | np.uint64(k)
        entries[k] = entry
        for digit in range(_DIGITS):
            begins[digit, (entry >> np.uint64(32 + digit * _DIGIT_BITS)) & mask] += np.uint32(1)
    for digit in range(_DIGITS):
        places, total = begins[digit], np.uint32(0)
        for k in range(len(places)):
            in_front = total
            total += places[k]
            places[k] = in_front
        shift = np.uint64(32 + digit * _DIGIT_BITS)
        for entry in entries:
            value = (entry >> shift) & mask
            target[places[value]] = entry
            places[value] += np.uint32(1)
        entries, target = target, entries
    for k in range(len(entries)):
        entries[k] &= np.uint64(2**32 - 1)
    return entries
