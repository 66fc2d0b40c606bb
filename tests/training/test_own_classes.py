"""A detector for classes of one's own, and for a camera of one's own: labels, recordings, and the commands."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for package, extra in (("torch", "train"), ("onnx", "onnx"), ("yaml", "train"), ("mcap", "recording")):
    pytest.importorskip(package, reason=f"{package} is not installed: the extra [{extra}] brings it")

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from edge_isp.calibration.profile import load_profile  # noqa: E402
from edge_isp.calibration.simulation import SensorModel  # noqa: E402
from edge_isp.cli.main import app  # noqa: E402
from edge_isp.errors import DatasetError, ModelError  # noqa: E402
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame  # noqa: E402
from edge_isp.kernels.pack import pack  # noqa: E402
from edge_isp.models.card import read_card  # noqa: E402
from edge_isp.orientation import upright_picture  # noqa: E402
from edge_isp.recording.recorder import Recorder  # noqa: E402
from edge_isp.training.detector import run as detector_run  # noqa: E402
from edge_isp.training.detector.class_names import find_class_names, load_class_names  # noqa: E402
from edge_isp.training.detector.data import DetectorPairs  # noqa: E402
from edge_isp.training.detector.distillation import Labels  # noqa: E402
from edge_isp.training.detector.labels import frame_stem, load_labels, read_labels  # noqa: E402
from edge_isp.training.detector.recordings import load_recordings  # noqa: E402
from edge_isp.training.networks.yolox import YoloxNano, class_layers, with_classes  # noqa: E402
from tests.support.own_classes import NAMES, draw_objects, write_own_classes  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs" / "detector.md"


def photos(folder: Path, count: int, *, side: int = 160) -> list[Path]:
    """Photographs of soft colours that need no data."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    paths = []
    for i in range(count):
        small = Image.fromarray(rng.integers(60, 200, (6, 8, 3), dtype=np.uint8))
        paths.append(folder / f"photo{i}.png")
        small.resize((side, side * 3 // 4), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def frame(number: int, mosaic: np.typing.NDArray[np.uint16], cfa: Cfa = Cfa.RGGB, orientation: int = 1) -> RawFrame:
    layout = RawFormat(mosaic.shape[1], mosaic.shape[0], cfa, 10, Packing.U16)
    return RawFrame(
        data=pack(mosaic, packing=layout.packing, bit_depth=10),
        format=layout,
        source="camera",
        sequence=number,
        timestamp_ns=1_000_000 * number,
        black_level=(64, 64, 64, 64),
        white_level=1023,
        sensor="imx219",
        analogue_gain=1.0,
        colour_gains=(1.75, 1.43),
        colour_temperature_k=5700.0,
        orientation=orientation,
    )


def record(path: Path, frames: list[RawFrame]) -> None:
    with closing(Recorder(path)) as recorder:
        for each in frames:
            recorder.frame(each)


# The names of classes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "traffic cone\nchequered marker\nhazard sign\n"),
        ("bom.txt", "\ufefftraffic cone\r\nchequered marker\r\nhazard sign\r\n\r\n"),
        ("data.yaml", "nc: 3\nnames: ['traffic cone', 'chequered marker', 'hazard sign']\ntrain: ../train/images\n"),
        ("data.yaml", "names:\n  0: traffic cone\n  1: chequered marker\n  2: hazard sign\n"),
        (
            "roboflow.json",
            '{"categories": [{"id": 0, "name": "signs", "supercategory": "none"}, {"id": 1, "name": "traffic cone", '
            '"supercategory": "signs"}, {"id": 2, "name": "chequered marker", "supercategory": "signs"}, {"id": 3, '
            '"name": "hazard sign", "supercategory": "signs"}], "annotations": []}',
        ),
        (
            "label_studio.json",
            '{"categories": [{"id": 2, "name": "hazard sign"}, {"id": 0, "name": "traffic cone"}, {"id": 1, "name": '
            '"chequered marker"}], "annotations": []}',
        ),
    ],
)
def test_names_of_classes(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert load_class_names(tmp_path / name) == NAMES


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "found none"),
        ("a.txt", "cone\n\nsign\n", "found an empty one"),
        ("a.txt", "cone\nsign\ncone\n", "the class 'cone' is named 2 times"),
        ("a.txt", b"\xff\xfe\x00", "cannot be read as names of classes"),
        ("a.yaml", "train: images\n", "expected YAML with 'names'"),
        ("a.yaml", "names: cone\n", "found a str"),
        ("a.yaml", "names: {0: cone, 2: sign}\n", r"must be numbered 0 to 1, found \[0, 2\]"),
        ("a.yaml", "names: [", "expected YAML with 'names'"),
        ("a.json", "{}", "expected categories as in COCO's instances"),
        ("a.json", "[1]", "expected categories as in COCO's instances"),
    ],
)
def test_names_of_classes_that_are_wrong(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=message):
        load_class_names(tmp_path / name)


def test_names_stand_beside_the_labels_of_an_export(tmp_path: Path) -> None:
    labels = tmp_path / "export" / "train" / "labels"
    labels.mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"no data\.yaml or classes\.txt beside it .* --class-names FILE"):
        find_class_names(labels)
    (tmp_path / "export" / "data.yaml").write_text("names: [cone, sign]")
    assert find_class_names(labels) == ("cone", "sign")
    (labels / "classes.txt").write_text("marker")
    assert find_class_names(labels) == ("marker",), "the nearest counts"


# Labels


def test_labels_of_exports(tmp_path: Path) -> None:
    """The same object as Roboflow and Label Studio export it, in both formats."""
    image = tmp_path / "a_png.rf.0123456789abcdef.png"
    Image.new("RGB", (200, 100)).save(image)
    boxes = {"yolo": "1 0.5 0.5 0.1 0.2\n\n", "polygon": "1 0.45 0.4 0.55 0.5 0.5 0.6\n"}
    places = {}
    for name, text in boxes.items():
        folder = tmp_path / name / "labels"
        folder.mkdir(parents=True)
        (folder / f"{image.stem}.txt").write_text(text)
        places[name] = folder.parent
    document = {
        "images": [{"id": 0, "file_name": f"images\\{image.name}", "width": 400, "height": 200}],
        "categories": [{"id": 0, "name": "cone"}, {"id": 1, "name": "sign"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [180, 80, 40, 40]}],
    }
    for name, file in (("roboflow", "_annotations.coco.json"), ("label_studio", "result.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(document))
        places[name] = tmp_path / name
    for name, place in places.items():
        found = load_labels([image], place, ["cone", "sign"])[image.stem]
        np.testing.assert_allclose(found.xyxy, [[90, 40, 110, 60]], err_msg=name)
        assert found.class_id.tolist() == [1], name


def test_labels_of_other_images_are_refused(tmp_path: Path) -> None:
    """Every image would have been one without an object."""
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    (tmp_path / "b.txt").write_text("0 0.5 0.5 0.1 0.2\n")
    with pytest.raises(DatasetError, match=r"has labels of none of 1 images; expected a\.txt"):
        load_labels([tmp_path / "a.png"], tmp_path, ["cone"])


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}/a.png", "width": 2, "height": 2} for i in range(2)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": images, "categories": [], "annotations": []}))
    with pytest.raises(DatasetError, match="two images are called 'a'"):
        read_labels(path, ["cone"])
    images[1].update(file_name="b.png", width=0)
    path.write_text(json.dumps({"images": images, "categories": [], "annotations": []}))
    with pytest.raises(DatasetError, match="image 1: width and height must be above 0, found 0 x 2"):
        read_labels(path, ["cone"])


@pytest.mark.parametrize(
    "stem",
    ["ride_000042", "ride_20261128T101500Z_000042", "0a1b2c3d-ride_000042", "ride_000042_png.rf.0123456789abcdef"],
)
def test_labels_of_frames_by_name(stem: str) -> None:
    assert frame_stem(stem) == "ride_000042"


# Recordings


@pytest.mark.parametrize("cfa", list(Cfa))
@pytest.mark.parametrize("orientation", range(1, 9))
def test_recorded_frames_are_upright_whatever_their_order(tmp_path: Path, cfa: Cfa, orientation: int) -> None:
    """A bright corner, in the mosaic and in the picture, at the place of its label."""
    upright = np.full((96, 128), 64, np.uint16)
    upright[8:40, 8:56] = 700
    back = {6: 8, 8: 6}.get(orientation, orientation)  # what undoes a turn
    # The bytes of its codes are turned one by one: a picture has bytes.
    low, high = (upright_picture((upright >> shift).astype(np.uint8)[..., None], back)[..., 0] for shift in (0, 8))
    stored = (low.astype(np.uint16) | high.astype(np.uint16) << 8).astype(np.uint16)
    frames = [frame(i, stored, cfa, orientation) for i in range(2)]
    record(tmp_path / "ride.mcap", frames)
    (tmp_path / "ride_000001.txt").write_text(f"0 {32 / 128} {24 / 96} {48 / 128} {32 / 96}\n")
    labels = read_labels(tmp_path, ["cone"])
    (recording,) = load_recordings([tmp_path / "ride.mcap"], labels)
    made = recording.whole(64)
    brightness = made.mosaic.mean(0)
    bright, dark = brightness[7:13, 3:13], brightness[17:27]
    assert bright.min() > dark.max() + 0.3
    picture = made.picture.mean(0)[::2, ::2]
    assert np.corrcoef(brightness[5:27].ravel(), picture[5:27].ravel())[0, 1] > 0.95
    np.testing.assert_allclose(made.objects, [[0, 0, 4, 12, 28, 28]], atol=0.6)


def test_recordings_without_frames_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected \.dng, \.raw, \.mcap files, found none"):
        load_recordings([tmp_path])
    codes = np.full((32, 32), 64, np.uint16)
    record(tmp_path / "ride.mcap", [frame(3, codes)])
    (tmp_path / "other_000003.txt").write_text("")
    with pytest.raises(DatasetError, match="none of the frames has labels; .* ride_000042, found 'other_000003'"):
        load_recordings([tmp_path], read_labels(tmp_path, ["cone"]))
    assert [recording.name for recording in load_recordings([tmp_path])] == ["ride_000003"]
    record(tmp_path / "broken.mcap", [replace(frame(0, codes), status=FrameStatus.CORRUPTED)])
    with pytest.raises(DatasetError, match="no undamaged frame"):
        load_recordings([tmp_path / "broken.mcap"])


def test_of_long_recordings_frames_are_left_out_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "ride.mcap", [frame(i, np.full((32, 32), 64, np.uint16)) for i in range(10)])
    monkeypatch.setattr("edge_isp.training.detector.recordings._MOST_BYTES", 4 * 32 * 32 * 5)
    names = [recording.name for recording in load_recordings([tmp_path / "ride.mcap"])]
    assert names == ["ride_000000", "ride_000003", "ride_000006", "ride_000009"]


# The network, and what it learns


def test_other_classes_leave_the_rest_of_the_network() -> None:
    torch.manual_seed(0)
    student = YoloxNano().eval()
    changed = with_classes(student, 3).eval()
    x = torch.rand(1, 4, 32, 32)
    for before, after in zip(student(x), changed(x), strict=True):
        torch.testing.assert_close(before[0], after[0])
        torch.testing.assert_close(before[1], after[1])
        assert (before[2].shape[1], after[2].shape[1]) == (80, 3)
        assert len(torch.unique(after[2])) > 1


def test_new_layers_learn_faster(tmp_path: Path) -> None:
    network = with_classes(YoloxNano(), 3)
    layers = class_layers(network)
    pairs = DetectorPairs([], [], seed=0)
    slow, fast = Labels(pairs, {}, 3), Labels(pairs, {}, 3, new=tuple(layers[0].parameters()))
    assert fast.pace(layers[0].weight) == 10 * slow.pace(layers[0].weight)
    assert fast.pace(layers[1].weight) == slow.pace(layers[1].weight)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_isp.training.detector.data._SIZES", ((64, 2),))
    monkeypatch.setattr(detector_run, "_CALIBRATION_BATCHES", 1)
    monkeypatch.setattr(detector_run, "_VALIDATION_SIZE", 64)


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["train", "detector", *arguments, "--steps", "2", "--quantised-steps", "0"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("small")
def test_a_detector_for_classes_of_ones_own_without_a_teacher(tmp_path: Path) -> None:
    write_own_classes(photos(tmp_path / "photos", 5), tmp_path / "own", seed=3)
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in NAMES))
    torch.manual_seed(0)
    torch.save(YoloxNano().state_dict(), tmp_path / "start-float.pt")
    out, own = tmp_path / "out", tmp_path / "own"
    common = ("--images", str(own / "images"), "--labels", str(own / "labels"), "--out", str(out))
    with pytest.raises(DatasetError, match="name them with --class-names FILE"):
        invoke(*common, "--init", str(tmp_path / "start-float.pt"))
    names = ("--class-names", str(tmp_path / "names.txt"))
    with pytest.raises(ModelError, match="no network to start from: give --init FILE or --teacher FILE"):
        invoke(*common, *names)
    invoke(*common, *names, "--init", str(tmp_path / "start-float.pt"))
    card = read_card(out / "raw-detector-custom.toml")
    assert card.classes == NAMES
    card.verify_file()
    training = card.document["training"]
    lines = [line for path in sorted((own / "labels").iterdir())[:4] for line in path.read_text().splitlines()]
    counts = {name: sum(line.startswith(f"{i} ") for line in lines) for i, name in enumerate(NAMES)}
    assert training["objects"] == counts
    assert (training["learnt_from"], training["images"], training["initial_weights"]) == ("labels", 4, "start-float.pt")
    assert "teacher" not in training
    # Its weights are a start for a further run, which keeps what they know of the classes.
    again = tmp_path / "again"
    invoke(*common[:-1], str(again), *names, "--init", str(out / "raw-detector-custom-float.pt"))
    assert read_card(again / "raw-detector-custom.toml").classes == NAMES


@pytest.mark.usefixtures("small")
def test_a_class_that_is_not_named_is_one_clear_error(tmp_path: Path) -> None:
    write_own_classes(photos(tmp_path / "photos", 4), tmp_path / "own", seed=3)
    (tmp_path / "own" / "classes.txt").write_text("cone\n")
    (tmp_path / "own" / "labels" / "photo0.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    torch.save(YoloxNano().state_dict(), tmp_path / "start-float.pt")
    with pytest.raises(DatasetError, match=r"photo0\.txt: line 1: class 1 is not among the classes, .* 0 to 0"):
        invoke(
            *("--images", str(tmp_path / "own" / "images"), "--labels", str(tmp_path / "own" / "labels")),
            *("--init", str(tmp_path / "start-float.pt"), "--out", str(tmp_path / "out")),
        )


@pytest.mark.usefixtures("small")
def test_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no network to learn from: give --teacher FILE, or --labels PATH"):
        invoke("--out", str(tmp_path / "out"))


def commands_of_docs() -> list[str]:
    text = DOCS.read_text(encoding="utf-8")
    section = re.split(r"^## ", text.partition("## Your own classes")[2], flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", "".join(section[:2])).splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.startswith("    edge-isp train detector")]


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("command", commands_of_docs())
def test_the_commands_of_the_documentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path, command: str
) -> None:
    """On tiny data, with a few steps: classes of one's own of photographs and of a recording, a camera of one's own."""
    monkeypatch.chdir(tmp_path)
    write_own_classes(photos(tmp_path / "photos", 5), tmp_path / "own", seed=3)
    (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    export = tmp_path / "export"
    write_own_classes(sorted((tmp_path / "photos").iterdir()), export / "train", seed=4)
    (export / "data.yaml").write_text(f"names: {list(NAMES)}\n")
    (tmp_path / "yolox_nano.onnx").symlink_to(data / "teachers" / "yolox_nano.onnx")
    (tmp_path / "weights").symlink_to(Path(__file__).parents[2] / "weights")
    sensor = SensorModel(load_profile("imx219"))
    frames = []
    (tmp_path / "labels").mkdir()
    for i in range(5):
        image, lines = draw_objects(np.full((96, 128, 3), 90, np.uint8), np.random.default_rng(i))
        linear = ((image / 255) ** 2.2).astype(np.float32)
        made = sensor.codes(linear, np.random.default_rng(i), colour_temperature_k=5700, exposure=1, analogue_gain=1)
        frames.append(frame(i, made, Cfa(sensor.profile.cfa)))
        (tmp_path / "labels" / f"ride_{i:06d}.txt").write_text("\n".join(lines))
    record(tmp_path / "ride.mcap", frames)
    words = shlex.split(command)[3:]
    invoke(*words)
    out = tmp_path / words[words.index("--out") + 1]
    (model,) = out.glob("*.tflite")
    document: dict[str, Any] = tomllib.loads(model.with_suffix(".toml").read_text())
    learnt_from = document["training"]["learnt_from"]
    assert learnt_from == " and ".join(source for source in ("labels", "teacher") if f"--{source}" in words)
    assert document["model"]["classes"][0] == (NAMES[0] if "--labels" in words else "person")
