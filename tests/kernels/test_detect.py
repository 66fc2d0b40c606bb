"""detect and suppress against their references, and suppress against OpenCV."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_isp.kernels import reference
from edge_isp.kernels.detect import detect, level_tables, suppress
from tests.kernels.sampling import COMPILED, examples

seeds = st.integers(0, 2**32)
thresholds = st.floats(0, 1, width=32)
limits = st.sampled_from([1, 3, 100, 100_000])

Outputs = list[tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int8]]]
Quantisation = list[tuple[int, tuple[float, int], tuple[float, int], tuple[float, int]]]


def random_outputs(rng: np.random.Generator, classes: int, *, side: int, wild: bool) -> tuple[Outputs, Quantisation]:
    """Outputs of three levels, of random quantisation; `wild` ones use every code and overflow what can overflow."""

    def quantisation(widest: float) -> tuple[float, int]:
        scale = 10 ** rng.uniform(-3, 1) if wild else rng.uniform(0.2, 1) * widest / 128
        return float(np.float32(scale)), int(rng.integers(-128, 128) if wild else rng.integers(-30, 30))

    outputs, told = [], []
    for stride in (8, 16, 32):
        # Few codes make equal scores, which test the order.
        low, high = (-128, 128) if wild or rng.random() < 0.5 else (-3, 4)
        size = (max(1, side * 8 // stride), max(1, (side + 3) * 8 // stride))
        outputs.append(
            tuple(rng.integers(low, high, (*size, channels)).astype(np.int8) for channels in (4, 1, classes))
        )
        told.append((stride, quantisation(3), quantisation(10), quantisation(10)))
    return outputs, told  # type: ignore[return-value]


@examples
@given(seeds, st.sampled_from([1, 2, 80]), st.integers(1, 12 if COMPILED else 3), st.booleans(), thresholds, limits)
def test_detections_equal_their_reference(
    seed: int, classes: int, side: int, wild: bool, iou_threshold: float, limit: int
) -> None:
    rng = np.random.default_rng(seed)
    outputs, told = random_outputs(rng, classes, side=side, wild=wild)
    confidence = float(rng.choice([0.0, 0.01, 0.25, rng.random()]))
    levels = [level_tables(s, box=b, objectness=o, classes=c, confidence=confidence) for s, b, o, c in told]
    arguments: dict[str, Any] = {"iou_threshold": iou_threshold, "max_detections": limit}
    found = detect(outputs, levels, **arguments)
    expected = reference.detect(outputs, told, confidence=confidence, **arguments)
    for name, one, other in zip(("boxes", "scores", "classes"), found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, err_msg=name)
    assert np.isfinite(found[0]).all()


def test_a_confidence_that_is_a_score_takes_it() -> None:
    # Every pair of codes: the comparison of codes must be that of scores, up to the last bit.
    objectness = np.arange(-128, 128).astype(np.int8).reshape(16, 16, 1)
    for code in (-120, -5, 0, 70):
        classes = np.full((16, 16, 1), code, np.int8)
        boxes = np.zeros((16, 16, 4), np.int8)
        quantisation = {"box": (0.02, 0), "objectness": (0.06, 3), "classes": (0.07, -9)}
        everything = [level_tables(8, confidence=0.0, **quantisation)]
        _, scores, _ = detect([(boxes, objectness, classes)], everything, iou_threshold=1, max_detections=256)
        assert len(scores) == 256
        for place in (0, 100, 255):
            levels = [level_tables(8, confidence=float(scores[place]), **quantisation)]
            _, found, _ = detect([(boxes, objectness, classes)], levels, iou_threshold=1, max_detections=256)
            np.testing.assert_array_equal(found, scores[scores >= scores[place]])


def test_one_cell_by_hand() -> None:
    boxes, objectness = np.zeros((3, 5, 4), np.int8), np.full((3, 5, 1), -100, np.int8)
    classes = np.full((3, 5, 4), -50, np.int8)
    boxes[1, 2] = (25, -50, 0, 100)  # at 0.01: 0.25 and -0.5 of a stride; sizes of 1 and e strides
    objectness[1, 2], classes[1, 2, 3] = 0, 20  # at 0.1: sigmoid(0) * sigmoid(2)
    levels = [level_tables(16, box=(0.01, 0), objectness=(0.1, 0), classes=(0.1, 0), confidence=0.4)]
    found, scores, class_ids = detect([(boxes, objectness, classes)], levels, iou_threshold=0.5, max_detections=10)
    height = 16 * np.e
    np.testing.assert_allclose(found, [[36 - 8, 8 - height / 2, 36 + 8, 8 + height / 2]], rtol=1e-6)
    np.testing.assert_allclose(scores, [0.5 / (1 + np.exp(-2))], rtol=1e-6)
    assert class_ids.tolist() == [3]


def test_equal_scores_come_by_level_row_and_column() -> None:
    levels = [
        level_tables(s, box=(0.02, 0), objectness=(0.1, 0), classes=(0.1, 0), confidence=0.1) for s in (8, 16, 32)
    ]
    outputs = []
    for stride in (8, 16, 32):
        side = 64 // stride
        box = np.full((side, side, 4), -128, np.int8)  # so small that none overlaps another
        box[..., :2] = 0
        outputs.append((box, np.zeros((side, side, 1), np.int8), np.zeros((side, side, 2), np.int8)))
    boxes, scores, class_ids = detect(outputs, levels, iou_threshold=0.5, max_detections=1000)
    assert len(boxes) == 64 + 16 + 4
    assert len(set(scores.tolist())) == 1
    assert not class_ids.any()  # of equal classes the first
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    expected = [(x * s, y * s) for s in (8, 16, 32) for y in range(64 // s) for x in range(64 // s)]
    np.testing.assert_allclose(centres, expected, atol=1e-3)


def random_boxes(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    corners = rng.uniform(-20, 400, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(0.5, 150, (count, 2))], 1).astype(np.float32)


@examples
@given(seeds, st.integers(0, 300 if COMPILED else 20), st.sampled_from([1, 3, 80]), thresholds, limits, st.booleans())
def test_suppression_equals_its_reference(
    seed: int, count: int, classes: int, iou_threshold: float, limit: int, ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, count)
    if ties:
        boxes = (np.round(boxes / 50) * 50).astype(np.float32)  # equal, touching and empty boxes
    scores = (rng.integers(0, 8, count) / 8 if ties else rng.random(count)).astype(np.float32)
    class_ids = rng.integers(0, classes, count).astype(np.int32)
    arguments: dict[str, Any] = {"iou_threshold": iou_threshold, "max_detections": limit}
    found = suppress(boxes, scores, class_ids, **arguments)
    np.testing.assert_array_equal(found, reference.suppress(boxes, scores, class_ids, **arguments))


@examples
@given(
    seeds, st.integers(1, 300 if COMPILED else 20), st.sampled_from([1, 5, 80]), st.floats(0.05, 0.95), st.booleans()
)
def test_suppression_equals_opencv(seed: int, count: int, classes: int, iou_threshold: float, ties: bool) -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, count)
    # OpenCV wants scores above its threshold.
    scores = (rng.integers(1, 9, count) / 8 if ties else rng.uniform(0.01, 1, count)).astype(np.float32)
    class_ids = rng.integers(0, classes, count).astype(np.int32)
    sizes = boxes.astype(np.float64)
    sizes[:, 2:] -= sizes[:, :2]
    expected = cv2.dnn.NMSBoxesBatched(sizes.tolist(), scores.tolist(), class_ids.tolist(), 0.0, iou_threshold)
    found = suppress(boxes, scores, class_ids, iou_threshold=iou_threshold, max_detections=count)
    np.testing.assert_array_equal(found, np.asarray(expected).ravel())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": []}, "expected outputs of 1 levels, found 0"),
        ({"dtype": np.uint8}, "outputs: class logits must be int8"),
        ({"max_detections": 0}, "max_detections must be a whole number from 1 to"),
        ({"iou_threshold": 1.5}, "iou_threshold must be within 0 and 1, found 1.5"),
    ],
)
def test_detect_refuses_what_cannot_be(change: dict[str, Any], message: str) -> None:
    dtype = change.pop("dtype", np.int8)
    levels = [level_tables(8, box=(1, 0), objectness=(1, 0), classes=(1, 0), confidence=0.5)]
    outputs = [tuple(np.zeros((2, 2, channels), dtype) for channels in (4, 1, 3))]
    arguments: dict[str, Any] = {"outputs": outputs, "iou_threshold": 0.5, "max_detections": 5, **change}
    with pytest.raises(ValueError, match=message):
        detect(arguments.pop("outputs"), levels, **arguments)


def test_tables_refuse_what_cannot_be() -> None:
    quantisation: dict[str, Any] = {"box": (1.0, 0), "objectness": (1.0, 0), "classes": (1.0, 0)}
    with pytest.raises(ValueError, match="confidence must be within 0 and 1, found 30"):
        level_tables(8, confidence=30, **quantisation)
    with pytest.raises(ValueError, match="stride must be positive, found 0"):
        level_tables(0, confidence=0.3, **quantisation)
