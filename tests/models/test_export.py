"""Exports hold the model's own integers, for every size, and their cards say what they are; refusals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from typer.testing import CliRunner

from edge_isp.cli.main import app
from edge_isp.engines.base import TensorInfo
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.errors import EdgeIspError, EngineError, MissingDependencyError, ModelError
from edge_isp.models.card import ModelCard, find_model, read_card, shipped_models
from edge_isp.models.export import Export, export_model
from edge_isp.models.tflite_graph import TfliteGraph
from edge_isp.tasks.isp import IspTask

SHIPPED = [name for name, path in shipped_models().items() if read_card(path).task == "isp"]
# Of frames: width, height.
SIZES = [(64, 48), (62, 34), (2, 2)]


def picture_model() -> ModelCard:
    """A shipped model whose output is a picture."""
    return next(card for card in map(read_card, shipped_models().values()) if card.outputs[0].layout == "planes12")


def rewritten(card: ModelCard, folder: Path, find: str, replacement: str) -> ModelCard:
    """A copy of a model with another text in its card."""
    source = card.path.with_suffix(".toml")
    text = source.read_text()
    assert find in text
    (folder / source.name).write_text(text.replace(find, replacement, 1))
    shutil.copy(card.path, folder)
    return read_card(folder / source.name)


def random_input(card: ModelCard, size: tuple[int, int]) -> NDArray[np.int8]:
    shape = (1, *card.input_size(*size), card.input.shape[3])
    return np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)


def run_in_litert(path: Path, x: NDArray[np.int8]) -> tuple[TensorInfo, NDArray[np.int8]]:
    """What the file declares of its output, and the output."""
    with LiteRtEngine(path, threads=1) as engine:
        declared = engine.outputs[0]
        engine.resize(x.shape)
        (out,) = engine.run([x])
    return declared, out


def depth_to_space(planes: NDArray[np.int8]) -> NDArray[np.int8]:
    batch, height, width, _ = planes.shape
    cells = planes.reshape(batch, height, width, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5)
    return cells.reshape(batch, 2 * height, 2 * width, 3)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("size", SIZES)
def test_a_static_model_computes_what_its_source_does(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    card = read_card(shipped_models()[name])
    path = export_model(card, tmp_path, Export("tflite", size=size))
    assert path.name == f"{name}-{size[0]}x{size[1]}.tflite"
    x = random_input(card, size)
    _, expected = run_in_litert(card.path, x)
    declared, found = run_in_litert(path, x)
    assert declared.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_put_together_by_the_model(size: tuple[int, int], tmp_path: Path) -> None:
    card = picture_model()
    path = export_model(card, tmp_path, Export("tflite", "rgb", size))
    assert path.name == f"{card.name}-{size[0]}x{size[1]}-rgb.tflite"
    x = random_input(card, size)
    _, planes = run_in_litert(card.path, x)
    declared, found = run_in_litert(path, x)
    assert declared.shape == (1, size[1], size[0], 3)
    np.testing.assert_array_equal(found, depth_to_space(planes))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_tensor_of_a_static_model_has_its_size(name: str, tmp_path: Path) -> None:
    card = read_card(shipped_models()[name])
    path = export_model(card, tmp_path, Export("tflite", size=(100, 60)))
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    shapes = {entry["index"]: tuple(entry["shape"]) for entry in interpreter.get_tensor_details()}
    graph = TfliteGraph(path.read_bytes(), path.name)
    for operator in graph.operators:
        assert graph.shape(operator.output) == shapes[operator.output]
        assert graph.shape(operator.output)[1:3] in (card.input_size(100, 60), (1, 1))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_of_an_export_describes_it(name: str, tmp_path: Path) -> None:
    source = read_card(shipped_models()[name])
    card = read_card(export_model(source, tmp_path, Export("tflite", size=(62, 34))).with_suffix(".toml"))
    card.verify_file()
    with LiteRtEngine(card.path, threads=1) as engine:
        IspTask(card).verify(engine.inputs, engine.outputs)
    assert card.name == source.name
    assert card.input.shape == (1, *source.input_size(62, 34), source.input.shape[3])
    assert card.outputs[0].layout == source.outputs[0].layout
    changed = {("model", "file"), ("model", "sha256"), ("input", "shape"), ("output", "shape")}
    assert "variants" not in card.document  # they were compiled of another file
    for section, values in source.document.items():
        for key, value in values.items() if section != "variants" else ():
            assert (card.document[section][key] == value) is ((section, key) not in changed)
    comments = [line for line in source.path.with_suffix(".toml").read_text().splitlines() if line.startswith("#")]
    assert [
        line for line in card.path.with_suffix(".toml").read_text().splitlines() if line.startswith("#")
    ] == comments


def test_the_card_of_a_picture_says_so_and_edge_isp_does_not_run_it(tmp_path: Path) -> None:
    card = read_card(export_model(picture_model(), tmp_path, Export("tflite", "rgb", (8, 6))).with_suffix(".toml"))
    assert (card.outputs[0].shape, card.outputs[0].layout) == ((1, 6, 8, 3), "rgb")
    with pytest.raises(ModelError, match="output layout must be 'planes12', found 'rgb'"):
        IspTask(card)
    with pytest.raises(
        ModelError, match="rgb.tflite: only a .tflite with 12 output planes, .*name the model that it was"
    ):
        export_model(card, tmp_path, Export("tflite", size=(8, 6)))


@pytest.mark.parametrize(
    ("export", "message"),
    [
        (Export("tflite"), "as .tflite needs the frames' size, such as 1920x1080; without one it is .*tflite itself"),
        (Export("tflite", size=(63, 48)), "size must be even, at least 2x2, .*; found 63x48"),
        (Export("onnx", size=(64, 47)), "size must be even, .*; found 64x47"),
        (Export("tflite", size=(0, 48)), "size must be even, at least 2x2, .*; found 0x48"),
        (Export("rknn", size=(64, 48)), "format must be one of tflite, onnx, onnx-nchw, onnx-float, found 'rknn'"),
        (Export("onnx", "bgr"), "layout must be one of planes12, rgb, found 'bgr'"),
    ],
)
def test_what_cannot_be_exported(export: Export, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        export_model(picture_model(), tmp_path / "out", export)
    assert not (tmp_path / "out").exists()


def test_a_residual_is_not_a_picture(tmp_path: Path) -> None:
    card = rewritten(picture_model(), tmp_path, '"planes12"', '"residual12"')
    with pytest.raises(ModelError, match="its output is a residual, which edge_isp adds .* with layout 'planes12'"):
        export_model(card, tmp_path, Export("tflite", "rgb", (64, 48)))


def test_a_file_that_is_not_its_cards_is_not_exported(tmp_path: Path) -> None:
    card = rewritten(picture_model(), tmp_path, 'sha256 = "', 'sha256 = "0')
    with pytest.raises(ModelError, match="is not the model that its card describes"):
        export_model(card, tmp_path / "out", Export("tflite", size=(64, 48)))


def test_a_card_that_cannot_be_rewritten(tmp_path: Path) -> None:
    card = rewritten(picture_model(), tmp_path, "shape = [1, ", "shape = [\n1, ")
    with pytest.raises(ModelError, match=r"toml: expected '.*' on a line of its own under \[.*\], found none"):
        export_model(card, tmp_path / "out", Export("tflite", size=(64, 48)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("formats", [("tflite", "onnx"), ("onnx", "tflite")])
def test_formats_stand_in_one_folder_each_with_its_card(formats: tuple[str, str], tmp_path: Path) -> None:
    card, size = picture_model(), (64, 48)
    paths = [export_model(card, tmp_path, Export(format, size=size)) for format in (*formats, *formats)]
    assert paths[:2] == paths[2:]
    for compiled in ("onnx-nchw", "onnx-float"):
        export_model(card, tmp_path, Export(compiled, size=size))
    stem = f"{card.name}-64x48"
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"{stem}.tflite", f"{stem}.onnx", f"{stem}-nchw.onnx", f"{stem}-float.onnx"),
        *(f"{stem}.toml", f"{stem}.{formats[1]}.toml"),
    }
    for path in paths[:2]:
        found = find_model(str(path), None)
        assert found.path == path
        found.verify_file()


def test_an_export_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edge_isp.files.os.replace", fail)
        with pytest.raises(ModelError, match="64x48.tflite: cannot be written: No space left on device"):
            export_model(picture_model(), tmp_path, Export("tflite", size=(64, 48)))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot be written: (File exists|Not a directory)"):
        export_model(picture_model(), tmp_path / "file", Export("tflite", size=(64, 48)))


def test_an_export_is_on_the_disk_before_it_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it deletes what a killed one left."""
    (tmp_path / ".edge-isp-abc.unfinished").touch()
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        calls.append("fsync")
        fsync(descriptor)

    def note_replace(old: str, new: Path) -> None:
        calls.append("replace")
        replace(old, new)

    monkeypatch.setattr("edge_isp.files.os.fsync", note_fsync)
    monkeypatch.setattr("edge_isp.files.os.replace", note_replace)
    path = export_model(picture_model(), tmp_path, Export("tflite", size=(64, 48)))
    assert calls == ["fsync", "fsync", "replace", "replace", "fsync"]
    assert sorted(tmp_path.iterdir()) == sorted([path, path.with_suffix(".toml")])


def changed(change: Callable[[TfliteGraph], None]) -> bytes:
    """A model in which something is other than edge_isp writes it."""
    graph = TfliteGraph(picture_model().path.read_bytes(), "model")
    change(graph)
    return graph.to_bytes()


def options_of(graph: TfliteGraph, kind: str) -> schema.Conv2DOptionsT:
    index = next(i for i, operator in enumerate(graph.operators) if operator.kind == kind)
    return graph.model.subgraphs[0].operators[index].builtinOptions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda g: setattr(options_of(g, "conv"), "strideH", 2),
            "expected padding 0 .SAME., stride 1, 1 or 1 .VALID., 2, 2; found .* 2, 1",
        ),
        (lambda g: setattr(options_of(g, "conv"), "padding", 1), "found padding 1, stride 1, 1"),
        (
            lambda g: setattr(options_of(g, "add"), "fusedActivationFunction", 3),
            "expected no fused activation, or RELU",
        ),
        (lambda g: setattr(g.model.operatorCodes[0], "builtinCode", 71), "expected CONV_2D, .*; found operator "),
        (lambda g: setattr(g.tensors[g.input], "type", 0), "expected an int8 tensor; found type 0"),
        (lambda g: setattr(g.tensors[g.input], "buffer", 1), "expected a tensor that is computed; found a constant"),
        (lambda g: setattr(g.model.subgraphs[0], "inputs", [0, 1]), "is no .tflite of one graph with one input"),
    ],
)
def test_models_that_edge_isp_does_not_write(change: Callable[[TfliteGraph], None], message: str) -> None:
    with pytest.raises(ModelError, match=f"theirs.tflite: .*{message}"):
        TfliteGraph(changed(change), "theirs.tflite")


DETECTOR = read_card(shipped_models()["raw-detector-generic"])


def detector_input(rows: int, columns: int) -> NDArray[np.int8]:
    return np.random.default_rng(0).integers(-128, 128, (1, rows, columns, 4)).astype(np.int8)


def test_a_detector_is_a_graph_that_accelerators_take_whole() -> None:
    """Vela leaves DEPTH_TO_SPACE to the CPU, OpenVINO cannot compile it, XNNPACK leaves RESIZE_NEAREST_NEIGHBOR."""
    kinds = Counter(operator.kind for operator in TfliteGraph(DETECTOR.path.read_bytes(), "detector").operators)
    assert kinds["upsample"] == 2
    assert not kinds["depth_to_space"]
    with LiteRtEngine(DETECTOR.path, threads=1) as engine:
        (partition,) = engine.report.partitions
        assert (partition.executor, dict(partition.operators)["TRANSPOSE_CONV"]) == ("XNNPACK", 2)


@pytest.mark.parametrize("xnnpack", [True, False])
def test_a_detector_of_one_file_is_that_of_every_size(xnnpack: bool, tmp_path: Path) -> None:
    """The file states the size that its upsampling makes, which the engine states anew."""
    with LiteRtEngine(DETECTOR.path, threads=1, xnnpack=xnnpack) as engine:
        for rows, columns in ((48, 64), (16, 16), (208, 208)):
            path = export_model(DETECTOR, tmp_path, Export("tflite", size=(2 * columns, 2 * rows)))
            x = detector_input(rows, columns)
            engine.resize(x.shape)
            found = engine.run([x])
            with LiteRtEngine(path, threads=1, xnnpack=xnnpack) as static:
                for a, b in zip(found, static.run([x]), strict=True):
                    np.testing.assert_array_equal(a, b)
            path.with_suffix(".toml").unlink()


def test_a_size_that_a_detector_cannot_have_leaves_the_engine_as_it_was() -> None:
    x = detector_input(208, 208)
    with LiteRtEngine(DETECTOR.path, threads=1, xnnpack=False) as engine:
        expected = engine.run([x])
        for shape in ((1, 100, 100, 4), (1, 208, 208), (1, 0, 16, 4)):
            with pytest.raises(EngineError, match="cannot resize this model to"):
                engine.resize(shape)
        assert engine.inputs[0].shape == x.shape
        for a, b in zip(engine.run([x]), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def upsampling(change: Callable[[TfliteGraph, Any], None]) -> bytes:
    graph = TfliteGraph(DETECTOR.path.read_bytes(), "model")
    index = next(i for i, operator in enumerate(graph.operators) if operator.kind == "upsample")
    change(graph, graph.model.subgraphs[0].operators[index])
    return graph.to_bytes()


def other_weights(graph: TfliteGraph, entry: Any) -> None:
    weights = graph.model.buffers[graph.tensors[entry.inputs[1]].buffer]
    weights.data = np.roll(weights.data, 1)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (other_weights, "other weights"),
        (lambda g, e: setattr(g.tensors[e.inputs[1]].quantization, "scale", [0.5]), "other weights"),
        (lambda g, e: setattr(g.tensors[e.outputs[0]].quantization, "scale", [3.0]), "another quantisation"),
        (lambda g, e: setattr(e.builtinOptions, "strideW", 1), r"stride \(2, 1\)"),
        (lambda g, e: setattr(e.builtinOptions, "padding", 0), "padding 0"),
        (lambda g, e: setattr(e.builtinOptions, "fusedActivationFunction", 1), "3 inputs"),
        (lambda g, e: setattr(e, "inputs", [*e.inputs, e.inputs[0]]), "4 inputs"),
        (lambda g, e: setattr(g.tensors[e.inputs[1]], "type", 0), "weights of type 0"),
        (lambda g, e: setattr(g.tensors[e.inputs[0]], "buffer", 0), "a shape that is computed"),
    ],
)
def test_a_transposed_convolution_that_is_no_upsampling(change: Callable[[TfliteGraph, Any], None], found: str) -> None:
    with pytest.raises(ModelError, match=f"expected a transposed convolution of 2x2, .* found .*{found}"):
        TfliteGraph(upsampling(change), "theirs.tflite")


@pytest.mark.parametrize("content", [b"", b"not a flatbuffer at all, but long enough to be read"])
def test_files_that_are_no_tflite(content: bytes) -> None:
    with pytest.raises(ModelError, match="bad.tflite: is no .tflite of one graph"):
        TfliteGraph(content, "bad.tflite")


def export(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", "isp", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, (SystemExit, EdgeIspError)):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_the_command(format: str, tmp_path: Path) -> None:
    name = picture_model().name
    arguments = ["--model", name, "--format", format, "--layout", "rgb", "--size", "64x48", "--out", tmp_path / "new"]
    code, output = export(*arguments)
    assert code == 0
    path = tmp_path / "new" / f"{name}-64x48-rgb.{format}"
    assert output.replace("\n", "") == str(path)
    assert read_card(path.with_suffix(".toml")).path == path
    code, output = export("--model", name, "--format", format, "--size", "64", "--out", tmp_path)
    assert code == 2
    assert "expected WIDTHxHEIGHT in pixels, both even" in output


def test_without_the_package_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edge_isp.models.qdq_onnx", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"needs the package 'onnx'.*pip install 'edge-isp\[onnx\]'"):
        export_model(picture_model(), tmp_path, Export("onnx"))


def test_export_needs_no_pytorch(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None; from edge_isp.cli.main import main; "
        f"sys.argv = ['edge-isp', 'export', 'isp', '--format', 'onnx', '--out', {str(tmp_path)!r}]; main()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".onnx", ".toml"]
