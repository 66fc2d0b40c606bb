"""The detector's training: pairs of one scene, a teacher, what the student is asked for, and how it is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for package, extra in (
    ("torch", "train"),
    ("onnx", "onnx"),
    ("cv2", "evaluate"),
    ("colour_demosaicing", "evaluate"),
    ("faster_coco_eval", "evaluate"),
):
    pytest.importorskip(package, reason=f"{package} is not installed: the extra [{extra}] brings it")

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from edge_isp.calibration.profile import load_profile  # noqa: E402
from edge_isp.calibration.simulation import SensorModel  # noqa: E402
from edge_isp.errors import DatasetError, EvaluationError, ModelError  # noqa: E402
from edge_isp.evaluation.detector.metrics import (  # noqa: E402
    agreement,
    bootstrap,
    mean_average_precision,
)
from edge_isp.evaluation.detector.run import detection_plan, detections, parse_exposure  # noqa: E402
from edge_isp.evaluation.detector.weights import boxes_of, clean_method, student_method  # noqa: E402
from edge_isp.evaluation.exposures import expose  # noqa: E402
from edge_isp.evaluation.store import Store  # noqa: E402
from edge_isp.training import trainer  # noqa: E402
from edge_isp.training.detector.data import NO_OBJECTS, DetectorPairs, View, pair, stack  # noqa: E402
from edge_isp.training.detector.distillation import Distillation, answer_loss, labelled, levels  # noqa: E402
from edge_isp.training.detector.labels import Boxes, load_labels  # noqa: E402
from edge_isp.training.detector.recordings import load_recordings  # noqa: E402
from edge_isp.training.export.tflite import to_float_tflite  # noqa: E402
from edge_isp.training.graph import trace  # noqa: E402
from edge_isp.training.networks.yolox import (  # noqa: E402
    CLASS_NAMES,
    Decoded,
    YoloxNano,
    decode,
    fold,
    load_teacher,
    picture_planes,
)
from edge_isp.training.simulation.samples import Capture  # noqa: E402
from edge_isp.training.weights import start_from  # noqa: E402

IMX219, IMX477 = (SensorModel(load_profile(name)) for name in ("imx219", "imx477"))
DAYLIGHT = Capture(colour_temperature_k=5700, exposure=1.0, analogue_gain=1.0)


def scene(seed: int = 0, height: int = 96, width: int = 128) -> np.typing.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)


def teacher() -> YoloxNano:
    torch.manual_seed(0)
    return YoloxNano(planes=12).eval().requires_grad_(False)


def boxes(*entries: tuple[float, ...]) -> Boxes:
    """Entries of x0, y0, x1, y1, class, confidence."""
    values = np.array(entries, np.float64).reshape(-1, 6)
    return Boxes(values[:, :4], values[:, 4].astype(np.int64), values[:, 5])


def test_the_teacher_is_the_network_of_its_file(data: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra [onnx] brings it")
    path = data / "teachers" / "yolox_nano.onnx"
    rgb = torch.rand(1, 3, 416, 416, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = decode(load_teacher(path)(picture_planes(rgb)))
    (expected,) = onnxruntime.InferenceSession(str(path)).run(None, {"images": (rgb.flip(1) * 255).numpy()})
    np.testing.assert_allclose(found.objectness[0], expected[0, :, 4], atol=1e-5)
    np.testing.assert_allclose(found.classes[0], expected[0, :, 5:], atol=1e-4)


def test_another_network_is_no_teacher(tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "other.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "nothing", [], [])), path)
    with pytest.raises(ModelError, match="expected 113 convolutions, found 0"):
        load_teacher(path)
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot be read as ONNX"):
        load_teacher(path)


def test_on_a_grey_picture_the_folded_student_is_its_teacher() -> None:
    """Where all colours of a cell are alike, a mosaic holds all that the picture does."""
    grey = torch.rand(1, 1, 32, 32).repeat_interleave(2, 2).repeat_interleave(2, 3)
    mosaic = grey[..., 0::2, 0::2].expand(-1, 4, -1, -1)
    original = teacher()
    expected, found = original(picture_planes(grey.expand(-1, 3, -1, -1))), fold(original).eval()(mosaic)
    for a, b in zip(sum(expected, ()), sum(found, ()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_teacher_and_student_see_one_scene() -> None:
    """Bright cells of the picture are bright in the mosaic, at the same place, in frames of any size."""
    view = View(scene(), NO_OBJECTS)
    made = pair(view, IMX219, DAYLIGHT, np.random.default_rng(0), 64)
    brightness = made.picture.mean(0).reshape(32, 2, 32, 2).mean((1, 3))
    assert np.corrcoef(brightness[4:-4].ravel(), made.mosaic.mean(0)[4:-4].ravel())[0, 1] > 0.95
    border = made.mosaic[:, :4]
    np.testing.assert_allclose(border, 114 / 255, atol=1e-6)
    np.testing.assert_allclose(made.picture[:, :8], 114 / 255, atol=1e-6)


def test_labels_follow_their_views() -> None:
    """One bright object on black: wherever a view puts it, the label surrounds it."""
    image = np.zeros((200, 300, 3), np.uint8)
    image[60:100, 150:210] = 255
    view = View(image, np.array([[7, 150, 60, 210, 100]], np.float32))
    pairs = DetectorPairs([view], [IMX219], seed=4)
    seen = 0
    for index in range(12):
        batch = pairs.make(index)
        size = batch.picture.shape[2]
        for number, class_id, *corners in batch.objects:
            x0, y0, x1, y1 = (round(float(c)) for c in corners)
            if x1 - x0 < 8 or y1 - y0 < 8:
                continue
            inside = batch.picture[int(number), 0, y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
            assert class_id == 7
            assert inside.min() > 0.9, (index, corners)
            assert 0 <= x0 < x1 <= size
            seen += 1
    assert seen > 20


def test_batches_depend_on_their_number_alone() -> None:
    def pairs() -> DetectorPairs:
        return DetectorPairs([View(scene(i), NO_OBJECTS) for i in range(3)], [IMX219, IMX477], seed=1)

    made = list(pairs().batches(0, 3))
    for index, batch in zip((1, 2), pairs().batches(1, 3), strict=True):
        np.testing.assert_array_equal(batch.mosaic, made[index].mosaic)
        np.testing.assert_array_equal(batch.picture, made[index].picture)


def test_equal_answers_cost_nothing_and_others_something() -> None:
    answer = decode(teacher()(picture_planes(torch.rand(1, 3, 64, 64))))
    assert float(answer_loss(answer, answer)) < 1e-5
    shifted = Decoded(answer.boxes + 4, answer.objectness, answer.classes)
    bolder = Decoded(answer.boxes, answer.objectness.clamp_min(0.9), answer.classes)
    assert float(answer_loss(bolder, answer)) > 0.01
    sure = Decoded(answer.boxes, answer.objectness.clamp_min(0.9), answer.classes.clamp_min(0.9))
    assert float(answer_loss(replace(shifted, objectness=sure.objectness, classes=sure.classes), sure)) > 0.1


def test_a_student_learns_and_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_isp.training.detector.data._SIZES", ((32, 2),))
    monkeypatch.setattr(trainer, "CHECKPOINT_EVERY", 4)
    original = teacher()
    views = [View(scene(i), NO_OBJECTS) for i in range(4)]
    validation = {"gain1": stack([pair(v, IMX219, DAYLIGHT, np.random.default_rng(0), 32) for v in views])}
    objective = Distillation(original, DetectorPairs(views, [IMX219], seed=1), validation)
    schedule = trainer.Schedule(steps=12, learning_rate=1e-3, warm_up=2)

    def student() -> YoloxNano:
        torch.manual_seed(1)
        return YoloxNano()

    whole = trainer.train(student(), objective, schedule, tmp_path / "whole")
    assert objective.validate(whole)["gain1"] < objective.validate(student())["gain1"]

    class Stopped(Exception):
        pass

    def stop(state: trainer.Progress) -> None:
        if state.step == 7:
            raise Stopped

    with pytest.raises(Stopped):
        trainer.train(student(), objective, schedule, tmp_path / "parts", stop)
    resumed = trainer.train(student(), objective, schedule, tmp_path / "parts")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_student_starts_from_weights_of_its_own(tmp_path: Path) -> None:
    trained, other, path = YoloxNano(), YoloxNano(), tmp_path / "student-float.pt"
    torch.save(trained.state_dict(), path)
    start_from(other, path)
    for name, value in trained.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    with pytest.raises(ModelError, match="student-float.pt: cannot start from these weights"):
        start_from(teacher(), path)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"student-float\.pt: expected weights .* found something else$"):
        start_from(other, path)
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="found a list"):
        start_from(other, path)


def test_labels_as_a_network_should_answer() -> None:
    objects = torch.tensor([[0, 3, 8, 8, 40, 40], [1, 5, 0, 0, 100, 60]])
    wanted = labelled(objects, count=2, size=128)
    cells = 16 * 16 + 8 * 8 + 4 * 4
    assert wanted.boxes.shape == (2, cells, 4)
    first = wanted.objectness[0].nonzero()[:, 0]
    assert (first < 256).all(), "32 pixels wide: of the finest level"
    assert len(first) == 4, "the cells around its middle"
    assert torch.equal(wanted.boxes[0][first], objects[0, 2:].float().expand(len(first), 4))
    assert (wanted.classes[0][first].argmax(1) == 3).all()
    second = wanted.objectness[1].nonzero()[:, 0]
    assert ((second >= 256) & (second < 320)).all(), "100 pixels wide: of the middle one"


def test_outputs_of_a_graph_by_level() -> None:
    outputs = [torch.full((1,), i) for i in range(9)]
    assert [int(part) for level in levels(outputs) for part in level] == list(range(9))


def test_detections_are_in_the_pixels_of_the_frame_whatever_its_order() -> None:
    """A network that finds the brightest cell, on sensors whose mosaics are mirrored as they are encoded."""
    photo = np.zeros((208, 416, 3), np.uint8)
    photo[40:72, 320:352] = 255

    def brightest(planes: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        out = []
        for stride in (8, 16, 32):
            mean = torch.nn.functional.avg_pool2d(planes.mean(1, keepdim=True), stride // 2)
            objectness = (mean - 0.9) * 100 if stride == 8 else torch.full_like(mean, -50)
            # The box reaches from the cell's corner, so that its middle is that of the cell.
            box = torch.cat([torch.full_like(mean, 0.5)] * 2 + [torch.zeros_like(mean)] * 2, 1)
            out.append((box, objectness, torch.full((1, 80, *mean.shape[2:]), 9.0)))
        return out

    for sensor in (IMX219, IMX477):
        exposure = expose(photo, "scene", sensor, DAYLIGHT)
        with student_method("brightest", "", brightest).open(sensor) as detect:
            found = detect(exposure)
        assert len(found.xyxy) == 16, sensor.profile.cfa
        np.testing.assert_allclose(found.xyxy.min(0)[:2], (320, 40), atol=1.5)
        np.testing.assert_allclose(found.xyxy.max(0)[2:], (352, 72), atol=1.5)


def test_average_precision() -> None:
    truth = {"a": boxes((10, 10, 50, 50, 1, 1), (60, 60, 90, 90, 2, 1)), "b": boxes()}
    assert mean_average_precision(truth, truth).ap == pytest.approx(100)
    half = {"a": boxes((10, 10, 50, 50, 1, 0.9)), "b": boxes()}
    assert mean_average_precision(truth, half).ap == pytest.approx(50)
    wrong = {"a": boxes((10, 10, 50, 50, 2, 0.9)), "b": boxes()}
    assert mean_average_precision(truth, wrong).ap == pytest.approx(0, abs=1e-6)
    assert mean_average_precision(truth, {"a": boxes(), "b": boxes()}).ap == 0
    loose = {"a": boxes((10, 10, 50, 60, 1, 0.9), (60, 60, 90, 90, 2, 1)), "b": boxes()}
    result = mean_average_precision(truth, loose)
    assert result.ap50 == pytest.approx(100)
    assert result.ap < 100


def test_the_bootstrap_tells_a_difference_from_none() -> None:
    truth = {str(i): boxes((10, 10, 50, 50, i % 3, 1)) for i in range(12)}
    nothing = {name: boxes() for name in truth}
    low, high = bootstrap(truth, truth, nothing, rounds=10)
    assert low == pytest.approx(100)
    assert high == pytest.approx(100)
    low, high = bootstrap(truth, truth, truth, rounds=10)
    assert low == high == 0


def test_agreement_counts_what_is_lost_and_what_is_made_up() -> None:
    reference = {"a": boxes((0, 0, 10, 10, 1, 0.9), (20, 20, 40, 40, 2, 0.5), (50, 50, 60, 60, 3, 0.1))}
    assert agreement(reference, reference) == agreement(reference, reference)
    same = agreement(reference, reference)
    assert (same.recall, same.precision, same.overlap, same.count) == (1, 1, 1, 2)
    lost = agreement(reference, {"a": boxes((0, 0, 10, 10, 1, 0.9), (20, 20, 40, 40, 1, 0.5))})
    assert (lost.recall, lost.precision) == (0.5, 0.5)
    nothing = agreement(reference, {"a": boxes()})
    assert (nothing.recall, nothing.precision, nothing.overlap) == (0, 0, 0)


def test_labels_are_read_in_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("3 0.5 0.5 0.1 0.2\n")
    found = load_labels([tmp_path / "a.png"], tmp_path)["a"]
    np.testing.assert_allclose(found.xyxy, [[90, 40, 110, 60]])
    assert found.class_id.tolist() == [3]
    (tmp_path / "a.txt").write_text("person 0.5 0.5\n")
    with pytest.raises(DatasetError, match="expected lines of class"):
        load_labels([tmp_path / "a.png"], tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("80 0.5 0.5 0.1 0.2", "line 2: class 80 is not among the classes, which are numbered 0 to 79"),
        ("-1 0.5 0.5 0.1 0.2", "line 2: class -1 is not among"),
        ("1.5 0.5 0.5 0.1 0.2", "line 2: class 1.5 is not among"),
        ("nan 0.5 0.5 0.1 0.2", "line 2: class nan is not among"),
        ("1 nan 0.5 0.1 0.2", "line 2: x, y, width and height must be finite, .* found nan, 0.5, 0.1, 0.2"),
        ("1 0.5 0.5 -0.1 0.2", "line 2: .* sizes not negative"),
    ],
)
def test_yolo_labels_that_are_wrong(tmp_path: Path, line: str, message: str) -> None:
    """Class 80 was an IndexError in the middle of the training, class -1 the last class, 1.5 the class 1."""
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(f"79 0.5 0.5 0.1 0.2\n{line}\n")
    with pytest.raises(DatasetError, match=rf"a\.txt: {message}"):
        load_labels([tmp_path / "a.png"], tmp_path, CLASS_NAMES)


def coco_labels(path: Path, **changes: Any) -> Path:
    document = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "folder/b.png"}],
        "categories": [{"id": 1, "name": "person"}, {"id": 39, "name": "baseball bat"}],
        "annotations": [
            {"id": 5, "image_id": 7, "category_id": 39, "bbox": [90, 40, 20, 20], "iscrowd": 0},
            {"id": 6, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
            {"id": 9, "image_id": 8, "category_id": 1, "bbox": [1, 2, 3, 4]},
        ],
    }
    for key, change in changes.items():
        document["annotations"][0][key] = change
    path.write_text(json.dumps(document))
    return path


def test_coco_labels_are_known_by_their_names(tmp_path: Path) -> None:
    found = load_labels([Path("a.png"), Path("b.png")], coco_labels(tmp_path / "labels.json"), CLASS_NAMES)
    np.testing.assert_array_equal(found["a"].xyxy, [[90, 40, 110, 60]])
    np.testing.assert_array_equal(found["b"].xyxy, [[1, 2, 4, 6]])
    assert (found["a"].class_id.tolist(), found["b"].class_id.tolist()) == ([34], [0])
    assert CLASS_NAMES[34] == "baseballbat"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category_id": 91}, "annotation 5: category_id 91 is not among the file's 2 categories"),
        ({"category_id": -1}, "annotation 5: category_id -1 is not among"),
        ({"category_id": None}, "annotation 5: category_id None is not among"),
        ({"image_id": 3}, "annotation 5: image_id 3 is not among the file's images"),
        ({"bbox": [1, 2, 3]}, "expected labels in COCO's format"),
        ({"bbox": [1, 2, -3, 4]}, "annotation 5: bbox must be finite"),
    ],
)
def test_coco_labels_that_are_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = coco_labels(tmp_path / "labels.json", **changes)
    with pytest.raises(DatasetError, match=rf"labels\.json: {message}"):
        load_labels([Path("a.png")], path, CLASS_NAMES)


def test_coco_labels_of_other_classes_and_images(tmp_path: Path) -> None:
    path = coco_labels(tmp_path / "labels.json")
    with pytest.raises(DatasetError, match="annotation 5: class 'baseball bat' is not among the 2 classes; did you me"):
        load_labels([Path("a.png")], path, ["person", "baseball cat"])
    with pytest.raises(DatasetError, match="does not name the image 'c', nor 0 more"):
        load_labels([Path("a.png"), Path("c.png")], path, CLASS_NAMES)
    path.write_text("[]")
    with pytest.raises(DatasetError, match="expected labels in COCO's format"):
        load_labels([Path("a.png")], path, CLASS_NAMES)


def test_detections_are_kept_and_made_again_where_weights_changed(tmp_path: Path) -> None:
    images = []
    for i in range(2):
        images.append(tmp_path / f"{i}.png")
        Image.fromarray(scene(i)).save(images[-1])
    original, path = teacher(), tmp_path / "found.json"
    plan = detection_plan([clean_method(original, "first", size=64)], [IMX219], [DAYLIGHT], images)
    store = Store(path, "detections")
    plan.measure(store)
    again = Store(path, "detections")
    assert plan.missing(again) == 0
    kept = detections(plan, again, plan.methods[0], IMX219, DAYLIGHT)
    assert set(kept) == {"0", "1"}
    changed = replace(plan, methods=[clean_method(original, "second", size=64)])
    assert changed.missing(again) == 2
    with pytest.raises(EvaluationError, match="expected results of pictures, found some of detections"):
        Store(path, "pictures")
    path.write_text("something else\n")
    with pytest.raises(EvaluationError, match="remove it or name another file"):
        Store(path, "detections")


def test_duplicates_are_suppressed_and_the_letterbox_undone() -> None:
    decoded = Decoded(
        boxes=torch.tensor([[[104.0, 104, 208, 208], [106, 104, 210, 208], [104, 104, 208, 208]]]),
        objectness=torch.tensor([[0.9, 0.8, 0.7]]),
        classes=torch.eye(80)[[4, 4, 6]][None],
    )
    found = boxes_of(decoded, (240, 480), 416)  # 208 rows in the middle of 416: 104 above
    assert found.class_id.tolist() == [4, 6]
    np.testing.assert_allclose(found.xyxy[0], [120, 0, 240, 120], atol=0.01)


def write_dng(path: Path, codes: np.typing.NDArray[np.uint16], preview: np.typing.NDArray[np.uint8]) -> None:
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed (extra calibration)")
    pytest.importorskip("rawpy", reason="rawpy is not installed (extra dng)")
    camera = [(50706, 1, 4, (1, 4, 0, 0), True), (50708, 2, 0, "Test", True), (50778, 3, 1, 21, True)]
    matrix = (50721, 10, 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True)
    neutral = (50728, 5, 3, (1, 1, 1, 1, 1, 1), True)
    mosaic = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, (2, 1, 1, 0), True)]  # BGGR
    levels_of = [(50714, 3, 1, 64, True), (50717, 3, 1, 1023, True)]
    with tifffile.TiffWriter(path) as file:
        file.write(preview, photometric="rgb", subfiletype=1, subifds=1, extratags=[*camera, matrix, neutral])
        file.write(codes, photometric=32803, subfiletype=0, extratags=[*mosaic, *levels_of])


def test_dng_files_and_their_previews_are_pairs(tmp_path: Path) -> None:
    """A bright corner, small enough to tell the four corners apart, in the RAW and in a preview half as large."""
    codes, preview = np.full((256, 384), 64, np.uint16), np.zeros((128, 192, 3), np.uint8)
    codes[:64, :96], preview[:32, :48] = 1023, 255
    write_dng(tmp_path / "a.dng", codes, preview)
    (recording,) = load_recordings([tmp_path])
    pairs = DetectorPairs([View(scene(), NO_OBJECTS)], [IMX219], seed=0, recordings=[recording])
    assert pairs.recordings
    seen = 0
    for i in range(20):
        made = recording.pair(np.random.default_rng(i), 128)
        brightness = made.picture.mean(0).reshape(64, 2, 64, 2).mean((1, 3))
        np.testing.assert_allclose(made.mosaic.mean(0), brightness, atol=0.55)
        assert np.mean(np.abs(made.mosaic.mean(0) - brightness)) < 0.02
        seen += bool((brightness > 0.9).any())
    assert seen > 5


def test_of_a_dng_without_a_fitting_preview_a_picture_is_made(tmp_path: Path) -> None:
    """The preview shows another part of the scene: the picture comes from the frame."""
    codes = np.full((96, 128), 64, np.uint16)
    codes[:48, :64] = 700
    write_dng(tmp_path / "a.dng", codes, np.full((96, 96, 3), 128, np.uint8))
    (recording,) = load_recordings([tmp_path / "a.dng"])
    assert recording.picture.shape[:2] == (96, 128)
    assert recording.picture[8:40, 8:56].min() > recording.picture[56:].max() + 50


def test_the_float_model_is_the_network() -> None:
    from ai_edge_litert.interpreter import Interpreter

    torch.manual_seed(0)
    network = YoloxNano().eval()
    interpreter = Interpreter(model_content=to_float_tflite(trace(network), height=32, width=64), num_threads=1)
    interpreter.allocate_tensors()
    x = torch.rand(1, 4, 32, 64)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x.permute(0, 2, 3, 1).numpy())
    interpreter.invoke()
    with torch.inference_mode():
        expected = [part for level in network(x) for part in level]
    for detail, part in zip(interpreter.get_output_details(), expected, strict=True):
        found = interpreter.get_tensor(detail["index"])
        np.testing.assert_allclose(found, part.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4)


def test_exposures_are_a_gain_and_a_share_of_light() -> None:
    assert parse_exposure("4") == (4, 1)
    assert parse_exposure("16@0.125") == (16, 0.125)
    for wrong in ("", "4@", "four", "0", "4@0", "nan", "inf", "4,16"):
        with pytest.raises(ValueError, match=r"expected a gain|could not convert"):
            parse_exposure(wrong)


def test_detections_of_small_images_are_in_their_own_pixels(tmp_path: Path) -> None:
    """The exposure is enlarged; what is kept is not."""
    path = tmp_path / "small.png"
    Image.fromarray(scene()).save(path)
    plan = detection_plan([], [IMX219], [DAYLIGHT], [path])
    exposure = plan.expose(path, IMX219, DAYLIGHT)
    assert exposure.enlarged == 5
    assert exposure.photo.shape == (480, 640, 3)
    assert plan.keep(boxes((50, 100, 150, 200, 3, 0.5)), exposure) == {
        "class_id": [3],
        "confidence": [0.5],
        "xyxy": [[10.0, 20.0, 30.0, 40.0]],
    }
