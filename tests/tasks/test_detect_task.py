"""Detections end to end around a fake network: geometry, colours, cards, conversions, the command line."""

from __future__ import annotations

import builtins
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edge_isp import plugins
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cli.main import app
from edge_isp.errors import FormatError, MissingDependencyError, ModelError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.detect import detect, level_tables
from edge_isp.kernels.layout import CELL_PLANES
from edge_isp.kernels.pack import pack
from edge_isp.metering.meter import complete_frame
from edge_isp.models.card import ModelCard, find_model, read_card
from edge_isp.models.export import Export, export_model
from edge_isp.pipeline import ModelOptions, Pipeline
from edge_isp.results import Detections, Picture
from edge_isp.tasks.classical import ClassicalIsp
from edge_isp.tasks.detect import DetectTask
from edge_isp.tasks.isp import IspTask
from edge_isp.tasks.registry import task_for
from tests.cli import in_process
from tests.support.fake_detector import (
    CLASSES,
    CONFIDENCE,
    ORDER,
    QUANTISATION,
    FakeDetectorEngine,
    write_fake_detector,
)
from tests.support.turned import STORED, stored

# (x0, y0, x1, y1) in sensor pixels, even, by the class of that colour; unlike under every mirroring.
OBJECTS = {"red": (60, 40, 200, 130), "green": (400, 60, 560, 330), "blue": (100, 300, 280, 420)}


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    return read_card(write_fake_detector(tmp_path))


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> str:
    """The fake as a plug-in; its name."""
    entry = EntryPoint("fake", "tests.support.fake_detector:FakeDetectorEngine", "edge_isp.engines")

    def find(group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry] if group == entry.group and name in (None, entry.name) else []

    monkeypatch.setattr(plugins, "entry_points", find)
    return "fake"


def colours(width: int, height: int, objects: dict[str, tuple[int, int, int, int]]) -> np.ndarray:
    """Coloured rectangles on dark grey, uint16 (height, width, 3)."""
    rgb = np.full((height, width, 3), 90, np.uint16)
    for name, (x0, y0, x1, y1) in objects.items():
        rgb[y0:y1, x0:x1] = 64
        rgb[y0:y1, x0:x1, CLASSES.index(name)] = 900
    return rgb


def scene(width: int, height: int, cfa: str, objects: dict[str, tuple[int, int, int, int]]) -> np.ndarray:
    """10-bit codes of coloured rectangles on dark grey."""
    return mosaic(colours(width, height, objects), cfa)


def mosaic(rgb: np.ndarray, cfa: str) -> np.ndarray:
    """What a sensor's pixels see of a picture."""
    codes = np.empty(rgb.shape[:2], np.uint16)
    for place, letter in enumerate(cfa):
        y, x = divmod(place, 2)
        codes[y::2, x::2] = rgb[y::2, x::2, "RGB".index(letter)]
    return codes


def shot(
    width: int = 640,
    height: int = 480,
    cfa: str = "RGGB",
    objects: dict[str, tuple[int, int, int, int]] = OBJECTS,
    gains: tuple[float, float] | None = (1.0, 1.0),
) -> RawFrame:
    return RawFrame(
        data=pack(scene(width, height, cfa, objects), packing="csi2p", bit_depth=10),
        format=RawFormat(width, height, Cfa(cfa), 10, Packing.CSI2P),
        source="folder/scene.raw",
        sequence=7,
        timestamp_ns=12_345_678_901,
        black_level=(64, 64, 64, 64),
        white_level=1023,
        sensor="imx219",
        colour_gains=gains,
    )


def detected(task: DetectTask, frame: RawFrame) -> tuple[Detections, np.ndarray]:
    """Through the fake engine; the detections and the tensor."""
    engine = FakeDetectorEngine(task.card.path)
    tensor = np.zeros(task.input_shape(frame.format), np.int8)
    engine.resize(tensor.shape)
    task.encode(frame, tensor)
    return task.decode(engine.run([tensor]), frame, tensor), tensor


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
@pytest.mark.parametrize("input_size", [None, 320])
@pytest.mark.parametrize(("width", "height"), [(640, 480), (646, 1000), (1296, 972)])
def test_boxes_lie_where_the_objects_are(
    card: ModelCard, cfa: str, input_size: int | None, width: int, height: int
) -> None:
    task = DetectTask(card, input_size=input_size)
    found, _ = detected(task, shot(width, height, cfa))
    assert sorted(found.names) == sorted(OBJECTS)
    np.testing.assert_allclose(found.confidence, CONFIDENCE, rtol=1e-5)
    pixel = max(width, height) / (input_size or 416)  # of the mosaic that the network sees
    for name, box in zip(found.names, found.xyxy, strict=True):
        # Cells at the edges may be seen or not; sizes are told to 2 %.
        slack = 2 * pixel + 0.012 * 270
        np.testing.assert_allclose(box, OBJECTS[name], atol=slack, err_msg=name)
    assert found.xyxy.dtype == found.confidence.dtype == np.float32
    assert found.class_id.dtype == np.int32
    assert (found.class_names, found.source, found.sequence) == (CLASSES, "folder/scene.raw", 7)


def turned_frame(rgb: np.ndarray, cfa: str, orientation: int) -> RawFrame:
    codes = mosaic(stored(rgb, orientation), cfa)
    height, width = codes.shape
    return replace(
        shot(width, height, cfa),
        data=pack(codes, packing="csi2p", bit_depth=10),
        orientation=orientation,
    )


TURNS = [(cfa, orientation) for cfa in CELL_PLANES for orientation in STORED]


@pytest.mark.parametrize(("cfa", "orientation"), TURNS)
def test_the_network_sees_an_rggb_mosaic_of_the_upright_scene(card: ModelCard, cfa: str, orientation: int) -> None:
    """No detector has learnt to see things upside down, mirrored, or with another mosaic: pixel by pixel."""
    rgb = np.random.default_rng(0).integers(64, 1024, (48, 56, 3)).astype(np.uint16)
    task, frame = DetectTask(card, input_size=64), turned_frame(rgb, cfa, orientation)
    tensor = np.zeros(task.input_shape(frame.format), np.int8)
    task.encode(frame, tensor)
    expected = DetectTask(card, input_size=64)
    matches = []
    for top in (0, 1):  # a mosaic that begins with another colour begins one pixel later
        for left in (0, 1):
            inner = np.ascontiguousarray(rgb[top : 48 - top, left : 56 - left])
            upright = np.zeros_like(tensor)
            expected.encode(turned_frame(inner, "RGGB", 1), upright)
            matches.append(np.array_equal(tensor, upright))
    assert sum(matches) == 1


@pytest.mark.parametrize(("cfa", "orientation"), TURNS)
def test_boxes_of_turned_frames_are_those_of_the_upright_picture(card: ModelCard, cfa: str, orientation: int) -> None:
    found, _ = detected(DetectTask(card), turned_frame(colours(640, 480, OBJECTS), cfa, orientation))
    assert found.size == (640, 480)
    assert sorted(found.names) == sorted(OBJECTS)
    for name, box in zip(found.names, found.xyxy, strict=True):
        np.testing.assert_allclose(box, OBJECTS[name], atol=2 * 640 / 416 + 0.012 * 270, err_msg=name)


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_a_box_by_hand(card: ModelCard, cfa: str) -> None:
    task, frame = DetectTask(card), shot(cfa=cfa)
    outputs = [np.full(output.shape, -128, np.int8) for output in card.outputs]
    stride, row, column = 8, 20, 30
    outputs[ORDER.index((stride, "box"))][0, row, column] = QUANTISATION["box"][1]  # all logits 0
    outputs[ORDER.index((stride, "objectness"))][0, row, column] = 120
    outputs[ORDER.index((stride, "class"))][0, row, column, 1] = 60
    (box,) = task.decode(outputs, frame, np.zeros(task.input_shape(frame.format), np.int8)).xyxy
    # Of the mosaic of 416: centre (240, 160), size 8. The frame fills its width, and its rows 52 to 364.
    x0, y0, x1, y1 = 236 * 640 / 416, (156 - 52) * 480 / 312, 244 * 640 / 416, (164 - 52) * 480 / 312
    if cfa == "GBRG":  # the first row and the last are left out: 478 rows in 310
        y0, y1 = (156 - 52) * 478 / 310 + 1, (164 - 52) * 478 / 310 + 1
    if cfa in ("GRBG", "BGGR"):  # the first column and the last likewise: 638 columns in 416
        x0, x1 = 236 * 638 / 416 + 1, 244 * 638 / 416 + 1
    if cfa == "GRBG":  # 480 rows in 312 and a half, rounded to whole cells: 156
        y0, y1 = (156 - 52) * 480 / 312, (164 - 52) * 480 / 312
    if cfa == "BGGR":
        y0, y1 = (156 - 52) * 478 / 312 + 1, (164 - 52) * 478 / 312 + 1
    np.testing.assert_allclose(box, [x0, y0, x1, y1], atol=1e-3)


def test_training_decodes_what_the_run_time_decodes() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'train')")
    from edge_isp.training.networks.yolox import CLASSES as COCO_CLASSES
    from edge_isp.training.networks.yolox import decode

    rng = np.random.default_rng(0)
    scales = {"box": (0.02, -10), "objectness": (0.06, 20), "classes": (0.06, 5)}
    outputs, levels, real = [], [], []
    for stride in (8, 16, 32):
        codes = [
            rng.integers(-128, 128, (96 // stride, 128 // stride, channels)).astype(np.int8)
            for channels in (4, 1, COCO_CLASSES)
        ]
        outputs.append((codes[0], codes[1], codes[2]))
        levels.append(level_tables(stride, confidence=0.0, **scales))
        real.append(
            tuple(
                torch.from_numpy((code.astype(np.float32) - zero_point) * scale).permute(2, 0, 1)[None]
                for code, (scale, zero_point) in zip(codes, scales.values(), strict=True)
            )
        )
    boxes, scores, class_ids = detect(outputs, levels, iou_threshold=1, max_detections=10_000)
    decoded = decode(real)
    best, expected_class = decoded.classes[0].max(1)
    expected = (best * decoded.objectness[0]).numpy()
    assert len(scores) == len(expected) == 12 * 16 + 6 * 8 + 3 * 4
    order = np.argsort(-expected, kind="stable")
    np.testing.assert_allclose(scores, expected[order], rtol=1e-5)
    # Scores that differ in the last bit only may have changed places.
    apart = -np.diff(expected[order]) > 1e-5
    clear = np.append(apart, True) & np.insert(apart, 0, True)
    assert clear.mean() > 0.5
    np.testing.assert_allclose(boxes[clear], decoded.boxes[0].numpy()[order][clear], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(class_ids[clear], expected_class.numpy()[order][clear])


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_boxes_stay_within_the_frame(card: ModelCard, cfa: str) -> None:
    objects = {"red": (0, 0, 100, 60), "blue": (560, 400, 640, 480)}
    found, _ = detected(DetectTask(card), shot(cfa=cfa, objects=objects))
    assert sorted(found.names) == ["blue", "red"]
    for name, box in zip(found.names, found.xyxy, strict=True):
        np.testing.assert_allclose(box, objects[name], atol=5)
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= 640
        assert box[3] <= 480


def test_what_is_seen_in_the_border_alone_is_not_detected(card: ModelCard) -> None:
    task, frame = DetectTask(card), shot(640, 320)
    tensor = np.zeros(task.input_shape(frame.format), np.int8)
    engine = FakeDetectorEngine(card.path)
    shown = np.full(tensor.shape, -128, np.int8)
    shown[0, 4:20, 40:90, 0] = 127  # above the frame, which begins at row 52
    assert len(task.decode(engine.run([shown]), frame, tensor)) == 0
    shown[0, 20:70, 40:90, 0] = 127
    (box,) = task.decode(engine.run([shown]), frame, tensor).xyxy
    assert box[1] == 0
    assert box[3] > 0


def test_the_border_is_the_grey_that_yolox_pads_with(card: ModelCard) -> None:
    frame = shot(640, 320)
    task = DetectTask(card)
    _, tensor = detected(task, frame)
    grey = 114 - 128
    assert (tensor[0, :52] == grey).all()
    assert (tensor[0, 156:] == grey).all()
    assert (tensor[0, 52:156] != grey).all()


def test_too_many_detections_are_cut_and_unlikely_ones_left_out(card: ModelCard) -> None:
    frame = shot()
    everything, _ = detected(DetectTask(card, max_detections=2), frame)
    assert len(everything) == 2
    nothing, _ = detected(DetectTask(card, confidence=0.9999999), frame)
    assert len(nothing) == 0
    assert nothing.xyxy.shape == (0, 4)


# Boxes of 80x80 pixels of the mosaic of 416 by the cell of stride 32 that they are in (row, column), best first, and
# their classes. The first two overlap by 0.43: their centres are 32 pixels apart.
CROWD = {(5, 4): "red", (5, 5): "green", (5, 10): "red", (9, 2): "blue"}


def crowd(card: ModelCard, size: int = 80) -> list[np.ndarray]:
    outputs = [np.full(output.shape, -128, np.int8) for output in card.outputs]
    scale, zero_point = QUANTISATION["box"]
    for place, ((row, column), name) in enumerate(CROWD.items()):
        box = outputs[ORDER.index((32, "box"))][0, row, column]
        box[:2] = zero_point
        box[2:] = round(np.log(size / 32) / scale) + zero_point
        outputs[ORDER.index((32, "objectness"))][0, row, column] = 120 - 8 * place
        outputs[ORDER.index((32, "class"))][0, row, column, CLASSES.index(name)] = 60
    return outputs


def seen(card: ModelCard, frame: RawFrame | None = None, **options: Any) -> list[str]:
    task = DetectTask(card, **options)
    frame = frame or shot(416, 416)
    return list(task.decode(crowd(card), frame, np.zeros(task.input_shape(frame.format), np.int8)).names)


def test_duplicates(card: ModelCard) -> None:
    assert seen(card) == ["red", "green", "red", "blue"]
    assert seen(card, class_agnostic=True, iou_threshold=0.5) == ["red", "green", "red", "blue"]
    assert seen(card, class_agnostic=True, iou_threshold=0.3) == ["red", "red", "blue"]
    assert seen(card, iou_threshold=0.3) == ["red", "green", "red", "blue"]


def test_classes_that_are_looked_for(card: ModelCard) -> None:
    assert seen(card, classes=["green", "blue"]) == ["green", "blue"]
    # What is not looked for takes no place, and hides nothing.
    assert seen(card, classes=("blue",), max_detections=1) == ["blue"]
    assert seen(card, classes=["green"], class_agnostic=True, iou_threshold=0.3) == ["green"]
    with pytest.raises(ModelError, match="'fake-detector-generic' knows no class 'gren'; did you mean 'green'"):
        DetectTask(card, classes=["gren"])
    with pytest.raises(ModelError, match="classes must be a list of names, found the text 'green'"):
        DetectTask(card, classes="green")


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
@pytest.mark.parametrize("orientation", STORED)
def test_regions_are_parts_of_the_upright_picture(card: ModelCard, cfa: str, orientation: int) -> None:
    frame = replace(shot(416, 416, cfa), orientation=orientation)
    # Middles at x 128, 160, 320, 64 and y 160, 160, 160, 288 of 416.
    assert seen(card, frame, regions=[(0, 0, 0.35, 0.5)]) == ["red"]
    assert seen(card, frame, regions=[(0.7, 0, 1, 1), (0, 0.6, 1, 1)]) == ["red", "blue"]
    assert seen(card, frame, regions=[(0.9, 0.9, 1, 1)]) == []
    assert seen(card, frame, regions=[(0, 0.6, 1, 1)], max_detections=1) == ["blue"]


def test_sizes_are_those_of_the_sensor(card: ModelCard) -> None:
    assert seen(card, min_size=77) == ["red", "green", "red", "blue"]
    assert seen(card, min_size=85) == []
    assert len(seen(card, shot(832, 832), min_size=154)) == 4  # the frame was made half as large
    assert seen(card, shot(832, 832), min_size=170) == []


def test_metering_balances_frames_without_gains(card: ModelCard) -> None:
    _, own_gains = detected(DetectTask(card), shot(gains=(2.0, 1.0)))
    _, without = detected(DetectTask(card), complete_frame(shot(gains=None)))
    _, plain = detected(DetectTask(card), shot())
    assert not np.array_equal(own_gains, plain)
    assert not np.array_equal(without, plain)


def test_tables_follow_the_gains_of_each_frame(card: ModelCard) -> None:
    task = DetectTask(card)
    tensors = [detected(task, shot(gains=gains))[1] for gains in ((1.0, 1.0), (2.0, 1.5), (1.0, 1.0))]
    np.testing.assert_array_equal(tensors[0], tensors[2])
    assert not np.array_equal(tensors[0], tensors[1])


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
@pytest.mark.parametrize(("width", "height"), [(320, 240), (416, 240), (240, 640), (64, 48)])
def test_frames_smaller_than_the_input_are_padded(card: ModelCard, cfa: str, width: int, height: int) -> None:
    objects = {"red": (8, 8, 40, 32), "blue": (24, 36, 60, 46)}
    found, tensor = detected(DetectTask(card), shot(width, height, cfa, objects))
    assert tensor.shape == (1, 208, 208, 4)
    assert (tensor[0, 0] == 114 - 128).all() or height > 416
    assert (tensor[0, :, 0] == 114 - 128).all() or width == 416
    assert sorted(found.names) == sorted(objects)
    for name, box in zip(found.names, found.xyxy, strict=True):
        np.testing.assert_allclose(box, objects[name], atol=4, err_msg=name)


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_the_smallest_frames(card: ModelCard, cfa: str) -> None:
    task = DetectTask(card, input_size=64)
    found, _ = detected(task, shot(4, 4, cfa, objects={}))
    assert len(found) == 0
    if cfa == "RGGB":
        detected(task, shot(2, 2, cfa, objects={}))
        return
    side = "rows" if cfa in ("GBRG", "BGGR") else "columns"
    with pytest.raises(FormatError, match=f"frames of CFA order {cfa} need at least 4 {side}, found 2"):
        detected(task, shot(2, 2, cfa, objects={}))


def test_a_stream_with_a_small_frame_goes_on(tmp_path: Path, card: ModelCard, fake_engine: str) -> None:
    objects = {"red": (8, 8, 40, 32)}
    for name, width, height in (("a", 640, 480), ("b", 64, 48), ("c", 320, 640), ("d", 640, 480)):
        write_recording(tmp_path / f"{name}.raw", scene(width, height, "BGGR", objects), "BGGR")
    with Pipeline(ReplayCamera(tmp_path), ModelOptions(str(card.path), engine=fake_engine)) as pipeline:
        done = list(pipeline)
    assert [list(d.detections.names) for d in done] == [["red"]] * 4
    assert [d.detections.size for d in done] == [(640, 480), (64, 48), (320, 640), (640, 480)]


@pytest.mark.parametrize("input_size", [0, -32, 400, 20])
def test_an_input_size_must_be_a_multiple(card: ModelCard, input_size: int) -> None:
    with pytest.raises(ModelError, match=f"must be a multiple of 32, found {input_size}"):
        DetectTask(card, input_size=input_size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 30}, "confidence must be within 0 and 1, found 30"),
        ({"iou_threshold": -1}, "iou_threshold must be within 0 and 1, found -1"),
        ({"max_detections": 0}, "max_detections must be a whole number from 1 to"),
        ({"min_size": -1}, "min_size must be a number of pixels, at least 0, found -1"),
        ({"min_size": float("nan")}, "min_size must be a number of pixels, at least 0, found nan"),
        ({"regions": [(0, 0, 1)]}, r"a region must be x0, y0, x1, y1 .* found \(0, 0, 1\)"),
        ({"regions": [(0, 0, 1, 1), (0, 0.5, 1, 0.5)]}, r"a region must be .* found \(0, 0.5, 1, 0.5\)"),
        ({"regions": [(-0.1, 0, 1, 1)]}, "a region must be x0, y0, x1, y1"),
        ({"regions": [(0, 0, 416, 416)]}, "a region must be x0, y0, x1, y1"),
    ],
)
def test_thresholds_must_make_sense(card: ModelCard, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectTask(card, **options)


def test_a_card_of_a_detector(card: ModelCard) -> None:
    assert (card.task, card.colour, card.classes) == ("detector", "", CLASSES)
    assert [(output.stride, output.layout) for output in card.outputs][:3] == [
        (32, "class"),
        (32, "box"),
        (32, "objectness"),
    ]
    card.verify_file()
    engine = FakeDetectorEngine(card.path)
    task = task_for(card)
    assert isinstance(task, DetectTask)
    task.verify(engine.inputs, engine.outputs)
    with pytest.raises(ModelError, match="expected 9 outputs, found 8"):
        task.verify(engine.inputs, engine.outputs[:-1])
    with pytest.raises(
        ModelError, match=r"output 0 shape: the card says \(1, 13, 13, 3\), the model's file has \(1, 13"
    ):
        task.verify(engine.inputs, engine.outputs[1:] + engine.outputs[:1])


def test_a_shipped_isp_model_has_a_task_of_its_own() -> None:
    card = find_model("rfdcsanet-s", None)
    assert isinstance(task_for(card), IspTask)
    assert len(card.outputs) == 1
    with pytest.raises(ModelError, match="makes pictures of the frames' own size: input size and confidence are a"):
        task_for(card, input_size=416)
    with pytest.raises(ModelError, match="task must be 'detector', found 'isp'"):
        DetectTask(card)


@pytest.mark.parametrize(
    ("find", "replacement", "message"),
    [
        ('layout = "rggb"', 'layout = "rggb-noise"', "input layout must be 'rggb', found 'rggb-noise'"),
        ('curve = "sqrt"', 'curve = "log"', "input curve must be one of linear, sqrt, found 'log'"),
        (
            "classes = ['red', 'green', 'blue']",
            "classes = ['red', 'green']",
            r"output 'class' of stride 32 must be .*2",
        ),
        ('layout = "box"', 'layout = "boxes"', "must have a layout of box, objectness, class .*found 'boxes'"),
        ('layout = "box"\nstride = 8', 'layout = "objectness"\nstride = 8', "shape of output 'objectness' of stride 8"),
        ("[1, 208, 208, 4]", "[1, 200, 200, 4]", "shape of output 'class' of stride 32"),
        ("stride = 8", "stride = 0", "and a stride, found 'class' and 0"),
        ('task = "detector"', 'task = "segmenter"', "task must be one of isp, detector, found 'segmenter'"),
    ],
)
def test_a_card_that_the_task_does_not_know(tmp_path: Path, find: str, replacement: str, message: str) -> None:
    path = write_fake_detector(tmp_path)
    assert find in path.read_text()
    path.write_text(path.read_text().replace(find, replacement, 1))
    with pytest.raises(ModelError, match=message):
        task_for(read_card(path))


def test_a_level_without_one_of_its_outputs(tmp_path: Path) -> None:
    path = write_fake_detector(tmp_path)
    path.write_text(path.read_text().rpartition("[[outputs]]")[0])
    with pytest.raises(ModelError, match="each stride must have one each of box, objectness, class; has "):
        task_for(read_card(path))


@pytest.mark.parametrize(
    ("find", "replacement", "message"),
    [
        ("classes = ['red', 'green', 'blue']", "", "lacks classes"),
        ("classes = ['red', 'green', 'blue']", "classes = [1, 2, 3]", "classes must be a list of texts, found"),
        ("[[outputs]]", "[[results]]", "lacks output"),
    ],
)
def test_malformed_cards(tmp_path: Path, find: str, replacement: str, message: str) -> None:
    path = write_fake_detector(tmp_path)
    path.write_text(path.read_text().replace(find, replacement))
    with pytest.raises(ModelError, match=message):
        read_card(path)


def test_shading_and_pictures_are_refused(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="lens shading as it comes"):
        task_for(card, correct_shading=True)
    with pytest.raises(ModelError, match="makes no picture: its task is 'detector'"):
        export_model(card, tmp_path, Export("onnx", "rgb"))


def detections() -> Detections:
    return Detections(
        xyxy=np.array([[10, 20, 30, 60], [0, 0, 5, 4]], np.float32),
        confidence=np.array([0.75, 0.5], np.float32),
        class_id=np.array([2, 0], np.int32),
        class_names=CLASSES,
        source="scene.raw",
        sequence=3,
        timestamp_ns=12_345_678_901,
    )


def nothing() -> Detections:
    empty = np.zeros(0, np.float32)
    return Detections(np.zeros((0, 4), np.float32), empty, empty.astype(np.int32), CLASSES, "scene.raw", 3, 0)


def test_detections_to_supervision() -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed (extra 'supervision')")
    found = detections().to_supervision()
    assert isinstance(found, supervision.Detections)
    np.testing.assert_array_equal(found.xyxy, detections().xyxy)
    np.testing.assert_array_equal(found.confidence, detections().confidence)
    assert found.class_id.tolist() == [2, 0]
    assert found["class_name"].tolist() == ["blue", "red"]
    assert found[found.class_id == 0]["class_name"].tolist() == ["red"]
    assert found.with_nms(0.5).xyxy.shape == (2, 4)
    assert len(nothing().to_supervision()) == 0


def test_without_supervision_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "supervision":
            raise ModuleNotFoundError("No module named 'supervision'", name=name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"needs the package 'supervision'.*'edge-isp\[supervision\]'"):
        detections().to_supervision()


def test_detections_as_a_ros_message() -> None:
    message = detections().to_vision_msgs("camera")
    header = {"stamp": {"sec": 12, "nanosec": 345_678_901}, "frame_id": "camera"}
    assert message["header"] == header
    first, second = message["detections"]
    assert first["header"] == header
    assert first["bbox"] == {
        "center": {"position": {"x": 20.0, "y": 40.0}, "theta": 0.0},
        "size_x": 20.0,
        "size_y": 40.0,
    }
    (result,) = first["results"]
    assert result["hypothesis"] == {"class_id": "blue", "score": 0.75}
    assert result["pose"]["pose"]["orientation"] == {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
    assert len(result["pose"]["covariance"]) == 36
    assert first["id"] == ""
    assert second["results"][0]["hypothesis"] == {"class_id": "red", "score": 0.5}
    assert json.loads(json.dumps(message)) == message  # plain types only
    assert nothing().to_vision_msgs()["detections"] == []


def write_recording(path: Path, codes: np.ndarray, cfa: str, frames: int = 1) -> None:
    height, width = codes.shape
    path.write_bytes(pack(codes, packing="csi2p", bit_depth=10).tobytes() * frames)
    path.with_suffix(".toml").write_text(
        f'[format]\nwidth = {width}\nheight = {height}\ncfa = "{cfa}"\nbit_depth = 10\npacking = "csi2p"\n'
        '[sensor]\nname = "imx219"\n[frame]\ncolour_gains = [1.0, 1.0]\ncolour_temperature_k = 5700\n'
    )


def recorded(folder: Path, frames: int = 2) -> Path:
    path = folder / "scene.raw"
    write_recording(path, scene(640, 480, "GBRG", OBJECTS), "GBRG", frames)
    return path


def test_a_pipeline_gives_detections(tmp_path: Path, card: ModelCard, fake_engine: str) -> None:
    camera = ReplayCamera(recorded(tmp_path))
    with Pipeline(camera, ModelOptions(str(card.path), engine=fake_engine)) as pipeline:
        done = list(pipeline)
    assert [d.detections.sequence for d in done] == [0, 1]
    assert all(sorted(d.detections.names) == sorted(OBJECTS) for d in done)
    assert all(list(d.stages_ns) == ["read", "encode", "infer", "decode"] for d in done)
    with pytest.raises(TypeError, match="fake-detector-generic makes no pictures, it detects: see `detections`"):
        done[0].picture  # noqa: B018


def test_a_pipeline_with_a_task_of_ones_own(tmp_path: Path, card: ModelCard, fake_engine: str) -> None:
    def strict(card: ModelCard) -> DetectTask:
        return DetectTask(card, input_size=320, max_detections=1)

    camera = ReplayCamera(recorded(tmp_path, frames=1))
    with Pipeline(camera, ModelOptions(str(card.path), engine=fake_engine, make_task=strict)) as pipeline:
        (done,) = pipeline
    assert len(done.detections) == 1


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["run", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_run_prints_a_line_a_frame(tmp_path: Path, card: ModelCard, fake_engine: str) -> None:
    code, output = run("--camera", recorded(tmp_path), "--model", card.path, "--engine", fake_engine)
    assert code == 0
    lines = [line for line in output.splitlines() if line.startswith("scene.raw")]
    first, second = [line for line in lines if ": " in line]
    assert first.startswith("scene.raw 0: ")
    assert second.startswith("scene.raw 1: ")
    assert all(f"{name} {CONFIDENCE:.2f} (" in first for name in OBJECTS)


@pytest.mark.parametrize("options", [(), ("--input-size", 320, "--confidence", 0.5)])
def test_run_json_lists_the_detections(
    tmp_path: Path, card: ModelCard, fake_engine: str, options: tuple[object, ...]
) -> None:
    path = recorded(tmp_path)
    code, output = run("--camera", path, "--model", card.path, "--engine", fake_engine, "--json", *options)
    assert code == 0
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["sequence"] for line in lines] == [0, 1]
    for line in lines:
        assert line["source"] == str(path)
        assert {entry["class_name"] for entry in line["detections"]} == set(OBJECTS)
        for entry in line["detections"]:
            assert set(entry) == {"box", "confidence", "class_id", "class_name"}
            assert CLASSES[entry["class_id"]] == entry["class_name"]
            np.testing.assert_allclose(entry["box"], OBJECTS[entry["class_name"]], atol=8)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--class", "red", "--class", "blue"), {"red", "blue"}),
        (("--min-size", 150), {"green"}),
        (("--region", "0,0,0.5,0.5", "--region", "0,0.5,0.5,1"), {"red", "blue"}),
        (("--max-detections", 3, "--iou", 0.9, "--class-agnostic"), set(OBJECTS)),
    ],
)
def test_run_keeps_what_is_asked_for(
    tmp_path: Path, card: ModelCard, fake_engine: str, options: tuple[object, ...], expected: set[str]
) -> None:
    common = ("--camera", recorded(tmp_path, frames=1), "--model", card.path, "--engine", fake_engine, "--json")
    code, output = run(*common, *options)
    assert code == 0
    assert {entry["class_name"] for entry in json.loads(output)["detections"]} == expected


def test_a_configuration_file_says_what_is_kept(tmp_path: Path, card: ModelCard, fake_engine: str) -> None:
    """In [run], and otherwise for a further model."""
    file = tmp_path / "config.toml"
    file.write_text(
        f'[run]\nmodel = "{card.path}"\nengine = "{fake_engine}"\nclass = ["red", "blue"]\n'
        'region = ["0,0,0.5,0.5"]\niou = 0.5\nmax_detections = 7\nmin_size = 20\nclass_agnostic = true\n'
        f'[[run.models]]\nmodel = "{card.path}"\nclass = ["green"]\nregion = []\n'
    )
    done = in_process.run("run", "--config", file, "--camera", recorded(tmp_path, frames=1), "--json")
    assert done.returncode == 0, done.stderr
    found = [{entry["class_name"] for entry in json.loads(line)["detections"]} for line in done.stdout.splitlines()]
    assert sorted(map(sorted, found)) == [["green"], ["red"]]


def test_the_last_frames_of_a_further_model_are_waited_for(
    tmp_path: Path, card: ModelCard, fake_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first model comes to the recording's end before the other has decoded anything."""
    first_has_ended, decode, run_to_the_end = threading.Event(), DetectTask.decode, Pipeline.run

    def slow(task: DetectTask, *arguments: Any) -> Detections:
        if task.card.path != card.path:
            first_has_ended.wait(2)
        return decode(task, *arguments)

    def run_on(pipeline: Pipeline) -> None:
        first_has_ended.set()
        run_to_the_end(pipeline)

    monkeypatch.setattr(DetectTask, "decode", slow)
    monkeypatch.setattr(Pipeline, "run", run_on)
    (tmp_path / "other").mkdir()
    other = write_fake_detector(tmp_path / "other")
    file = tmp_path / "config.toml"
    file.write_text(f'[run]\nmodel = "{card.path}"\nengine = "{fake_engine}"\n[[run.models]]\nmodel = "{other}"\n')
    done = in_process.run("run", "--config", file, "--camera", recorded(tmp_path, frames=3), "--json")
    assert done.returncode == 0, done.stderr
    assert first_has_ended.is_set()
    assert len(done.stdout.splitlines()) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--iou", "1.5"), "Invalid value for '--iou'"),
        (("--max-detections", "0"), "Invalid value for '--max-detections'"),
        (("--min-size", "-3"), "Invalid value for '--min-size'"),
        (("--region", "0,0,1"), "expected X0,Y0,X1,Y1 with"),
        (("--region", "0,0,640,480"), "expected X0,Y0,X1,Y1 with"),
        (("--region", "a,b,c,d"), "expected X0,Y0,X1,Y1 with"),
    ],
)
def test_run_refuses_options_out_of_range(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["run", "--camera", str(recorded(tmp_path)), "--model", "raw-detector", *options])
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_an_unknown_class_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'raw-detector-generic' knows no class 'persn'; did you mean 'person'"):
        run("--camera", recorded(tmp_path), "--model", "raw-detector", "--class", "persn")


def test_run_draws_boxes_on_the_picture(tmp_path: Path, card: ModelCard, fake_engine: str) -> None:
    path = recorded(tmp_path, frames=1)
    arguments = ("--camera", path, "--model", card.path, "--engine", fake_engine, "--json", "--save", tmp_path / "out")
    code, output = run(*arguments)
    assert code == 0
    line = json.loads(output)
    assert list(line["stages_ns"]) == ["read", "encode", "keep", "infer", "decode", "save"]
    with Image.open(line["saved"]) as image:
        drawn = np.asarray(image).astype(int)
    with ReplayCamera(path) as camera:
        frame = camera.read()
        assert frame is not None
        plain = ClassicalIsp().develop(frame).rgb.astype(int)
    assert drawn.shape == plain.shape == (480, 640, 3)
    changed = np.abs(drawn - plain).max(2) > 0
    for entry in line["detections"]:
        x0, y0, x1, y1 = (round(edge) for edge in entry["box"])
        middle = (y0 + y1) // 2
        assert changed[middle, x0]
        assert changed[middle, x1 - 1]
        assert changed[y1 - 1, (x0 + x1) // 2]
        assert not changed[y0 + 30 : y1 - 10, x0 + 10 : x1 - 10].any()
    assert changed.mean() < 0.1


def test_the_drawn_picture_has_the_scenes_colours() -> None:
    picture = ClassicalIsp().develop(shot(cfa="GRBG"))
    assert isinstance(picture, Picture)
    for name, (x0, y0, x1, y1) in OBJECTS.items():
        patch = picture.rgb[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4].reshape(-1, 3).mean(0)
        assert CLASSES[int(patch.argmax())] == name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--input-size", "400"), "must be a multiple of 32, found 400"),
        (("--lens-shading",), "lens shading as it comes"),
        (("--input-size", "640"), ""),
    ],
)
def test_run_refuses_before_the_first_frame(
    tmp_path: Path, card: ModelCard, fake_engine: str, options: tuple[str, ...], message: str
) -> None:
    arguments = ("--camera", recorded(tmp_path), "--model", card.path, "--engine", fake_engine, *options)
    if not message:
        assert run(*arguments)[0] == 0
        return
    with pytest.raises(ModelError, match=message):
        run(*arguments)


def test_an_input_size_is_not_for_pictures(recording: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="input size and confidence are a detector's, .* found input size"):
        run("--camera", recording(), "--input-size", "416")
    with pytest.raises(ModelError, match="found iou threshold, classes, class-agnostic suppression"):
        run("--camera", recording(), "--iou", "0.5", "--class", "cat", "--class-agnostic")
