"""Cards: found by name, checked against their files; the engine's and the sink's errors."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_isp.engines.litert import LiteRtEngine
from edge_isp.errors import EngineError, ModelError, SinkError
from edge_isp.models import card as card_module
from edge_isp.models.card import find_model, read_card, shipped_models
from edge_isp.models.pinned import SHA256
from edge_isp.results import Picture
from edge_isp.sinks.png import PngSink
from edge_isp.tasks.registry import task_for

SHIPPED = "rfdcsanet-published-imx219"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped model and its card; the card's path."""
    source = shipped_models()[SHIPPED]
    shutil.copy(source.with_suffix(".tflite"), tmp_path)
    return Path(shutil.copy(source, tmp_path))


@pytest.mark.parametrize("name", list(shipped_models()))
def test_every_shipped_model_is_what_its_card_says(name: str) -> None:
    card = read_card(shipped_models()[name])
    assert card.name == name
    card.verify_file()
    with LiteRtEngine(card.path, threads=1) as engine:
        task_for(card).verify(engine.inputs, engine.outputs)
        assert engine.report.delegate == "XNNPACK"


def test_models_are_found_by_name_family_and_path(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model(SHIPPED, None).name == SHIPPED
    assert find_model("rfdcsanet-published", "imx219").name == SHIPPED
    assert find_model("rfdcsanet-published", "imx999").name == SHIPPED  # the only one there is
    assert find_model("rfdcsanet-s", "imx999").name == "rfdcsanet-s-generic"
    assert find_model(str(model), None).path == model.with_suffix(".tflite")
    assert find_model(str(model.with_suffix(".tflite")), None).path == model.with_suffix(".tflite")
    generic = model.with_name("rfdcsanet-published-generic.toml")
    generic.write_text(model.read_text().replace(f'name = "{SHIPPED}"', 'name = "rfdcsanet-published-generic"'))
    monkeypatch.setattr(card_module, "shipped_models", lambda: {SHIPPED: model, generic.stem: generic})
    monkeypatch.setitem(SHA256, generic.name, hashlib.sha256(generic.read_bytes()).hexdigest())
    assert find_model("rfdcsanet-published", "imx219").name == SHIPPED
    assert find_model("rfdcsanet-published", "imx999").name == generic.stem


def test_missing_models(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ModelError, match=f"no model 'nope'; there are: .*{SHIPPED}"):
        find_model("nope", None)
    with pytest.raises(ModelError, match="nope.toml: no such file; a model needs its card"):
        find_model(str(tmp_path / "nope.tflite"), None)
    model.with_suffix(".tflite").unlink()
    with pytest.raises(ModelError, match=r"imx219.tflite: cannot be read: No such file"):
        read_card(model).verify_file()


def test_a_model_that_is_not_its_cards(model: Path) -> None:
    file = model.with_suffix(".tflite")
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="not the model that its card describes: expected SHA-256 .*, found"):
        read_card(model).verify_file()


@pytest.mark.parametrize(
    ("find", "replacement", "message"),
    [
        (
            "shape = [1, 360, 640, 4]",
            "shape = [1, 360, 641, 4]",
            r"input shape: the card says .*641.*, the model's file has",
        ),
        ("zero_point = -128", "zero_point = -127", "input zero point: the card says -127, the model's file has -128"),
        ("scale = 0.0039", "scale = 0.0049", "input scale: the card says 0.0049"),
    ],
)
def test_a_card_that_describes_another_tensor(model: Path, find: str, replacement: str, message: str) -> None:
    model.write_text(model.read_text().replace(find, replacement, 1))
    card = read_card(model)
    with LiteRtEngine(card.path, threads=1) as engine, pytest.raises(ModelError, match=message):
        task_for(card).verify(engine.inputs, engine.outputs)


@pytest.mark.parametrize(
    ("find", "replacement", "message"),
    [
        ('task = "isp"', 'task = "detect"', "task must be one of isp, detector, found 'detect'"),
        ('layout = "rggb"', 'layout = "bggr"', "input layout must be 'rggb', found 'bggr'"),
        ('layout = "planes12"', 'layout = "rgb"', "output layout must be 'planes12', found 'rgb'"),
        ('curve = "sqrt"', 'curve = "log"', "input curve must be one of linear, sqrt, found 'log'"),
        ('dtype = "int8"', 'dtype = "uint8"', "input dtype must be 'int8', found 'uint8'"),
        ("640, 12]", "640, 3]", "output channels must be '12', found '3'"),
    ],
)
def test_a_card_that_the_task_does_not_know(model: Path, find: str, replacement: str, message: str) -> None:
    model.write_text(model.read_text().replace(find, replacement, 1))
    with pytest.raises(ModelError, match=message):
        task_for(read_card(model))


@pytest.mark.parametrize(
    ("find", "replacement", "message"),
    [
        ("[model]", "[model", "not a TOML file"),
        ("[input]", "[inputs]", "the file lacks input"),
        ('sensor = "imx219"', "", "lacks sensor"),
        ('sensor = "imx219"', "sensor = 219", "model.sensor must be a text, found 219"),
        ("shape = [1, 360, 640, 4]", "shape = [1, 360]", "shape must be four positive whole numbers"),
        ("scale = 0.0039", "scale = -0.0039", "input.scale must be a positive finite number"),
        (f'file = "{SHIPPED}.tflite"', 'file = "../x.tflite"', "must stand beside its card"),
    ],
)
def test_malformed_cards(model: Path, find: str, replacement: str, message: str) -> None:
    assert find in model.read_text()
    model.write_text(model.read_text().replace(find, replacement, 1))
    with pytest.raises(ModelError, match=f"{SHIPPED}.toml: .*{message}"):
        read_card(model)


def test_variants_are_found_by_npu_and_size(model: Path) -> None:
    for name in ("small", "large", "any"):
        model.with_name(f"{name}.bin").write_text(name)
    with model.open("a") as file:
        for size, name in (("640x480", "small"), ("1280x720", "large"), ("any", "any")):
            digest = hashlib.sha256(name.encode()).hexdigest()
            file.write(f'[variants.npu.{size}]\nfile = "{name}.bin"\nsha256 = "{digest}"\n')
        file.write('[variants.other.640x480]\nfile = "small.bin"\nsha256 = "0"\n')
    card = read_card(model)
    assert [(v.npu, v.size_name) for v in card.variants][1:3] == [("npu", "1280x720"), ("npu", "any")]
    for shape, name in (((1, 240, 320, 4), "small"), ((1, 360, 640, 4), "large"), ((1, 8, 8, 4), "any")):
        assert card.find_variant("npu", shape) == model.with_name(f"{name}.bin")
    assert card.find_variant("other", (1, 8, 8, 4)) is None
    assert card.find_variant("none", (1, 240, 320, 4)) is None
    assert set(card.checksums) == {card.path, *(model.with_name(f"{n}.bin") for n in ("small", "large", "any"))}
    with pytest.raises(ModelError, match="small.bin: is not the model that its card describes"):
        card.find_variant("other", (1, 240, 320, 4))


@pytest.mark.parametrize("size", ["1280", "0x720", "1280x720x3", "1280 x 720"])
def test_variants_that_are_not_named_by_a_size(model: Path, size: str) -> None:
    with model.open("a") as file:
        file.write(f'[variants.npu."{size}"]\nfile = "x"\nsha256 = "0"\n')
    with pytest.raises(ModelError, match=r"must be named by the size of its frames, such as \[variants.npu.1280x720\]"):
        read_card(model)


def test_engine_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="none.tflite: cannot be read"):
        LiteRtEngine(tmp_path / "none.tflite")
    (tmp_path / "bad.tflite").write_bytes(b"not a flatbuffer at all, but long enough to be read")
    with pytest.raises(EngineError, match="bad.tflite: LiteRT cannot load this model"):
        LiteRtEngine(tmp_path / "bad.tflite")


def test_engine_refuses_inputs_that_do_not_fit() -> None:
    with LiteRtEngine(find_model(SHIPPED, None).path, threads=1) as engine:
        engine.resize((1, 8, 10, 4))
        good = np.zeros((1, 8, 10, 4), np.int8)
        assert engine.run([good])[0].shape == (1, 8, 10, 12)
        wrong: list[list[np.ndarray[Any, Any]]] = [[good.astype(np.uint8)], [good[:, :, :8]], [good, good]]
        for inputs in wrong:
            with pytest.raises(EngineError, match="must be int8|expected 1 inputs"):
                engine.run(inputs)
        with pytest.raises(EngineError, match="cannot resize this model"):
            engine.resize((1, 8, 10, 5))


def test_outputs_of_an_engine_belong_to_the_caller() -> None:
    with LiteRtEngine(find_model(SHIPPED, None).path, threads=1) as engine:
        engine.resize((1, 8, 8, 4))
        (first,) = engine.run([np.full((1, 8, 8, 4), -128, np.int8)])
        kept = first.copy()
        engine.run([np.full((1, 8, 8, 4), 127, np.int8)])
        np.testing.assert_array_equal(first, kept)


def picture() -> Picture:
    return Picture(np.zeros((4, 6, 3), np.uint8), "folder/scene.raw", 7, 0)


def test_png_sink_that_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="file: cannot write pictures there"):
        PngSink(tmp_path / "file")
    sink = PngSink(tmp_path / "pictures")
    sink.folder.rmdir()
    with pytest.raises(SinkError, match=r"scene_.*_000007.png: cannot be written: No such file"):
        sink.save(picture())
