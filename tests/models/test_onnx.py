"""ONNX: the same integers in ONNX Runtime as in LiteRT; the engine, its errors, and `run` with it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from typer.testing import CliRunner

from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.spec import demo_recording
from edge_isp.cli.main import app
from edge_isp.engines import onnxruntime as engine_module
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.onnxruntime import OnnxRuntimeEngine
from edge_isp.errors import EngineError, MissingDependencyError, ModelError
from edge_isp.metering.meter import complete_frame
from edge_isp.models.card import ModelCard, find_model, read_card, shipped_models
from edge_isp.models.export import Export, export_model
from edge_isp.models.qdq_onnx import qdq_onnx
from edge_isp.models.tflite_graph import TfliteGraph
from edge_isp.pipeline import ModelOptions, Pipeline
from edge_isp.tasks.isp import IspTask
from edge_isp.tasks.registry import task_for

Recording = Callable[..., Path]
Int8 = NDArray[np.int8]
SHIPPED = [name for name, path in shipped_models().items() if read_card(path).task == "isp"]
FIRST = SHIPPED[0]


def load(name: str) -> TfliteGraph:
    card = read_card(shipped_models()[name])
    return TfliteGraph(card.path.read_bytes(), card.path.name)


def random_input(shape: tuple[int, ...]) -> Int8:
    return np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)


def real_input(card: ModelCard) -> Int8:
    """The middle of the recording that ships, as a model's input; for a detector the whole of it."""
    task = task_for(card)
    with ReplayCamera(demo_recording()) as camera:
        frame = camera.read()
        assert frame
        frame = complete_frame(frame)
        tensor = np.zeros(task.input_shape(frame.format), np.int8)
        task.encode(frame, tensor)
    if card.task == "detector":
        return tensor
    return np.ascontiguousarray(tensor[:, 40:72, 40:88])


def both(graph: TfliteGraph, folder: Path, x: Int8) -> tuple[Int8, Int8]:
    """What LiteRT and ONNX Runtime make of an input."""
    graph.resize(*x.shape[1:3])
    (folder / "model.tflite").write_bytes(graph.to_bytes())
    (folder / "model.onnx").write_bytes(qdq_onnx(graph, static=True, rgb=False))
    with LiteRtEngine(folder / "model.tflite", threads=1) as ours, OnnxRuntimeEngine(folder / "model.onnx") as theirs:
        return ours.run([x])[0], theirs.run([x])[0]


@pytest.mark.parametrize("name", list(shipped_models()))
def test_forms_for_compilers_hold_the_same_network(name: str, tmp_path: Path) -> None:
    """NCHW has the integers of NHWC; float has the values, but for the rounding of the activations."""
    card = read_card(shipped_models()[name])
    x = real_input(card)
    size = (card.cell * x.shape[2], card.cell * x.shape[1])
    to_nchw, to_nhwc = (0, 3, 1, 2), (0, 2, 3, 1)
    found: dict[str, list[NDArray[np.float64]]] = {}
    for format in ("onnx", "onnx-nchw", "onnx-float"):
        path = export_model(card, tmp_path, Export(format, size=size))
        with OnnxRuntimeEngine(path, threads=1) as engine:
            (info,) = engine.inputs
            values = x if format == "onnx" else x.transpose(to_nchw)
            if format == "onnx-float":
                values = ((values.astype(np.float32) - info.zero_point) * info.scale).astype(np.float32)
            assert (info.shape, info.dtype) == (values.shape, str(values.dtype))
            assert info.scale == pytest.approx(card.input.scale)
            outputs = engine.run([np.ascontiguousarray(values)])
            assert [o.scale for o in engine.outputs] == pytest.approx([o.scale for o in card.outputs])
            assert [o.zero_point for o in engine.outputs] == [o.zero_point for o in card.outputs]
        found[format] = [o.astype(np.float64) if format == "onnx" else o.transpose(to_nhwc) for o in outputs]
    for integers, nchw, real, tensor in zip(*found.values(), card.outputs, strict=True):
        np.testing.assert_array_equal(nchw, integers)
        codes = np.clip(np.rint(real / tensor.scale) + tensor.zero_point, -128, 127)
        assert np.corrcoef(codes.ravel(), integers.ravel())[0, 1] > 0.95


def differences(expected: Int8, found: Int8) -> NDArray[np.int16]:
    assert expected.shape == found.shape
    assert expected.dtype == found.dtype == np.int8
    difference: NDArray[np.int16] = np.abs(expected.astype(np.int16) - found)
    return difference


@pytest.mark.parametrize("name", SHIPPED)
def test_every_operator_by_itself_is_within_1(name: str, tmp_path: Path) -> None:
    operators, kinds = load(name).operators, set()
    for index, operator in enumerate(operators):
        graph = load(name)
        # The operator alone, and where it reads two tensors, both are the input.
        weights = operator.inputs[1:] if operator.kind in ("conv", "depthwise", "mean") else ()
        inputs = (operator.inputs[0], *(weights or operator.inputs[:1] * (len(operator.inputs) - 1)))
        graph.operators = (replace(operator, inputs=inputs),)
        graph.input, graph.outputs = operator.inputs[0], (operator.output,)
        subgraph = graph.model.subgraphs[0]
        entry = subgraph.operators[index]
        entry.inputs = list(inputs)
        subgraph.operators, subgraph.inputs, subgraph.outputs = [entry], [graph.input], [operator.output]
        x = random_input((1, 23, 18, graph.shape(graph.input)[3]))
        x.reshape(-1, x.shape[3])[:256] = np.arange(-128, 128)[:, None]  # every code
        difference = differences(*both(graph, tmp_path, x))
        assert difference.max() <= 1
        if operator.kind != "add":
            assert difference.max() == 0
        kinds.add(operator.kind)
    assert {"conv", "concat"} <= kinds


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("size", [(24, 32), (17, 31), (1, 1), (90, 120)])
def test_a_whole_model_is_close_on_random_inputs(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    graph = load(name)
    difference = differences(*both(graph, tmp_path, random_input((1, *size, graph.shape(graph.input)[3]))))
    # The two runtimes round additions differently, once in 30 000 values; on noise a deep network enlarges that.
    assert difference.mean() < 0.5
    assert np.percentile(difference, 99) <= 4


@pytest.mark.parametrize("name", SHIPPED)
def test_a_whole_model_is_equal_on_a_real_frame(name: str, tmp_path: Path) -> None:
    from edge_isp.cameras.spec import demo_recording

    card = read_card(shipped_models()[name])
    with ReplayCamera(demo_recording()) as camera:
        frame = camera.read()
    assert frame
    task = IspTask(card, tone="srgb")
    x = np.empty(task.input_shape(frame.format), np.int8)
    task.encode(frame, x)
    difference = differences(*both(load(name), tmp_path, x))
    assert (difference > 0).mean() < 0.01
    assert (difference > 1).mean() < 0.001


@pytest.mark.parametrize("zero_point", [-128, -100, 40])
def test_a_relu_clips_wherever_zero_is(zero_point: int, tmp_path: Path) -> None:
    graph = load(FIRST)
    operator = next(o for o in graph.operators if o.kind == "conv" and o.relu)
    kept = graph.operators.index(operator) + 1
    graph.operators, graph.outputs = graph.operators[:kept], (operator.output,)
    subgraph = graph.model.subgraphs[0]
    subgraph.operators, subgraph.outputs = subgraph.operators[:kept], [operator.output]
    graph.tensors[operator.output].quantization.zeroPoint = [zero_point]
    expected, found = both(graph, tmp_path, random_input((1, 16, 16, graph.shape(graph.input)[3])))
    assert expected.min() == zero_point
    np.testing.assert_array_equal(found, expected)
    nodes = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert nodes.count("Relu") == (zero_point != -128)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_file_holds_the_integers_of_the_tflite(name: str) -> None:
    graph = load(name)
    model = onnx.load_from_string(qdq_onnx(graph, static=False, rgb=False))
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer}
    for operator in graph.operators:
        if operator.kind in ("conv", "depthwise"):
            weights, bias = (graph.tensor_name(index) for index in operator.inputs[1:])
            np.testing.assert_array_equal(
                np.sort(constants[f"{weights}/int"], None), np.sort(graph.constant(operator.inputs[1]), None)
            )
            np.testing.assert_array_equal(constants[f"{bias}/int"], graph.constant(operator.inputs[2]))
            assert constants[f"{weights}/int"].dtype == np.int8
    dimensions = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert dimensions == [1, "height", "width", graph.shape(graph.input)[3]]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The first shipped model as an `.onnx` of every size."""
    return export_model(read_card(shipped_models()[FIRST]), tmp_path / "models", Export("onnx"))


def test_one_file_serves_every_size(exported: Path) -> None:
    card = read_card(exported.with_suffix(".toml"))
    assert find_model(str(exported), None).path == exported
    with (
        OnnxRuntimeEngine(exported, threads=1) as engine,
        LiteRtEngine(shipped_models()[FIRST].with_suffix(".tflite")) as ours,
    ):
        IspTask(card).verify(engine.inputs, engine.outputs)
        assert engine.inputs[0].shape == card.input.shape
        assert engine.report.engine.startswith("onnxruntime 1.")
        assert (engine.report.delegate, engine.report.threads) == ("none", 1)
        for height, width in ((8, 10), (7, 5), (8, 10)):
            x = random_input((1, height, width, card.input.shape[3]))
            engine.resize(x.shape)
            ours.resize(x.shape)
            assert engine.outputs[0].shape == (1, height, width, 12)
            assert differences(ours.run([x])[0], engine.run([x])[0]).mean() < 0.1
    engine.close()


def test_a_picture_of_every_size(tmp_path: Path) -> None:
    source = next(card for card in map(read_card, shipped_models().values()) if card.outputs[0].layout == "planes12")
    path = export_model(source, tmp_path, Export("onnx", "rgb"))
    card = read_card(path.with_suffix(".toml"))
    x = random_input((1, 6, 9, 4))
    with OnnxRuntimeEngine(path) as engine, LiteRtEngine(source.path) as ours:
        assert (
            engine.outputs[0].shape == card.outputs[0].shape == (1, 2 * card.input.shape[1], 2 * card.input.shape[2], 3)
        )
        engine.resize(x.shape)
        ours.resize(x.shape)
        assert engine.outputs[0].shape == (1, 12, 18, 3)
        cells = ours.run([x])[0].reshape(1, 6, 9, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5)
        assert differences(cells.reshape(1, 12, 18, 3), engine.run([x])[0]).mean() < 0.1


def test_a_static_model_takes_its_size_only(tmp_path: Path) -> None:
    path = export_model(read_card(shipped_models()[FIRST]), tmp_path, Export("onnx", size=(20, 16)))
    with OnnxRuntimeEngine(path) as engine:
        channels = engine.inputs[0].shape[3]
        engine.resize((1, 8, 10, channels))
        with pytest.raises(EngineError, match=r"takes inputs of \(1, 8, 10, .*\) only, asked for .*'edge-isp export'"):
            engine.resize((1, 8, 12, channels))


def test_an_input_that_does_not_fit(exported: Path) -> None:
    with OnnxRuntimeEngine(exported, threads=1) as engine:
        channels = engine.inputs[0].shape[3]
        engine.resize((1, 8, 10, channels))
        good = np.zeros((1, 8, 10, channels), np.int8)
        for inputs in ([good.astype(np.uint8)], [good[:, :, :8]], [good, good]):
            with pytest.raises(EngineError, match="must be int8|expected 1 inputs"):
                engine.run(inputs)
        for shape in ((1, 8, 10, channels + 1), (8, 10, channels)):
            with pytest.raises(EngineError, match="takes inputs of"):
                engine.resize(shape)
        (first,) = engine.run([good])
        kept = first.copy()
        engine.run([good + np.int8(100)])
        np.testing.assert_array_equal(first, kept)  # it belongs to the caller


def test_files_that_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="none.onnx: cannot be read"):
        OnnxRuntimeEngine(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError, match="bad.onnx: ONNX Runtime cannot load this model"):
        OnnxRuntimeEngine(tmp_path / "bad.onnx")


def write_model(path: Path, kind: str, inputs: dict[str, list[int | str]], output: list[int | str]) -> None:
    """A float model of one operator, as somebody else may write it."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, output)
    graph = helper.make_graph([helper.make_node(kind, list(inputs), ["y"])], "theirs", values, [target])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)


def test_a_model_of_somebody_else(tmp_path: Path) -> None:
    write_model(tmp_path / "theirs.onnx", "Relu", {"x": ["batch", 2]}, ["batch", 2])
    with OnnxRuntimeEngine(tmp_path / "theirs.onnx") as engine:
        assert (engine.inputs[0].shape, engine.inputs[0].dtype, engine.inputs[0].scale) == ((1, 2), "float32", 0)
        engine.resize((3, 2))
        (out,) = engine.run([np.array([[-1, 1], [2, -2], [0, 3]], np.float32)])
        np.testing.assert_array_equal(out, [[0, 1], [2, 0], [0, 3]])
    write_model(tmp_path / "fails.onnx", "Add", {"x": ["n"], "z": [3]}, ["m"])
    with (
        OnnxRuntimeEngine(tmp_path / "fails.onnx") as engine,
        pytest.raises(EngineError, match="fails.onnx: ONNX Runtime cannot load this model: "),
    ):
        engine.resize((2,))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[1]", '{"%s": 7}', '{"%s": {"shape": 3}}'])
def test_metadata_that_describe_nothing(text: str, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    name = model.graph.input[0].name
    model.metadata_props[0].value = text % name if "%" in text else text
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(EngineError, match="a.onnx: its metadata 'edge_isp' do not describe its tensors"):
        OnnxRuntimeEngine(tmp_path / "a.onnx")


def test_products_that_may_saturate_are_computed_precisely(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = random_input((1, 16, 16, read_card(exported.with_suffix(".toml")).input.shape[3]))
    found = []
    for overflow in (False, True):
        monkeypatch.setattr(engine_module, "_products_overflow", lambda overflow=overflow: overflow)
        with OnnxRuntimeEngine(exported) as engine:
            engine.resize(x.shape)
            found.append(engine.run([x])[0])
    assert found[0].std() > 1
    if not engine_module._products_overflow():
        np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [("aarch64", "", False), ("x86_64", "avx2 avx512_vnni", False), ("x86_64", "avx2", True), ("x86_64", None, True)],
)
def test_which_processors_saturate(
    machine: str, flags: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_text(path: Path, encoding: str, errors: str) -> str:
        if flags is None:
            raise FileNotFoundError(path)
        return flags

    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert engine_module._products_overflow() is expected


def test_run_with_an_onnx_model(exported: Path, recording: Recording, tmp_path: Path) -> None:
    path = recording(frames=2, width=62, height=34)
    result = CliRunner().invoke(
        app, ["run", "--camera", str(path), "--model", str(exported), "--json", "--save", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["width"], line["height"]) for line in lines] == [(62, 34)] * 2
    assert all(Path(line["saved"]).exists() for line in lines)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_pipeline_takes_the_engine_that_the_file_needs(name: str, recording: Recording, tmp_path: Path) -> None:
    path = export_model(read_card(shipped_models()[name]), tmp_path / "models", Export("onnx"))
    pictures = []
    for model in (name, str(path)):
        with Pipeline(ReplayCamera(recording(frames=1)), model=model) as pipeline:
            (done,) = pipeline
            assert pipeline.report
            pictures.append((pipeline.report.engine.split()[0], done.picture.rgb.astype(int)))
    assert [engine for engine, _ in pictures] == ["litert", "onnxruntime"]
    assert np.abs(pictures[0][1] - pictures[1][1]).mean() < 0.5


def test_a_static_model_refuses_frames_of_another_size(recording: Recording, tmp_path: Path) -> None:
    path = export_model(read_card(shipped_models()[FIRST]), tmp_path / "models", Export("onnx", size=(32, 32)))
    with (
        Pipeline(ReplayCamera(recording()), model=str(path)) as pipeline,
        pytest.raises(EngineError, match="takes inputs of .* only, asked for .*'edge-isp export' makes one"),
    ):
        next(iter(pipeline))


def test_engines_that_do_not_fit_the_file(exported: Path, recording: Recording) -> None:
    with (
        Pipeline(ReplayCamera(recording()), ModelOptions(str(exported), engine="litert")) as pipeline,
        pytest.raises(EngineError, match="onnx: LiteRT cannot load this model"),
    ):
        next(iter(pipeline))
    other = exported.with_suffix(".rknn")
    exported.rename(other)
    card = exported.with_suffix(".toml")
    card.write_text(card.read_text().replace(".onnx", ".rknn"))
    with pytest.raises(ModelError, match="no engine is known for '.rknn', only for .tflite, .onnx"):
        Pipeline(ReplayCamera(recording()), model=str(card))
    with pytest.raises(ModelError, match=f"the card beside it, {card.name}, describes {other.name}"):
        find_model(str(exported), None)


def test_without_onnx_runtime(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edge_isp.engines.onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"'onnxruntime' needs .*pip install 'edge-isp\[onnx\]'"):
        Pipeline(ReplayCamera(recording()), ModelOptions(engine="onnxruntime"))


def test_the_engine_does_not_need_the_package_onnx(exported: Path) -> None:
    program = (
        "import sys; sys.modules['onnx'] = None; from edge_isp.engines.onnxruntime import OnnxRuntimeEngine; "
        f"print(OnnxRuntimeEngine({str(exported)!r}).inputs[0].zero_point)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "-128"


@pytest.mark.parametrize("network", ["RFDCSANet", "CalibratedRFDCSANet"])
def test_float_onnx_merged_and_in_branches_equal_pytorch(network: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: the extra [train] brings it")
    from edge_isp.training.export.onnx_float import to_float_onnx
    from edge_isp.training.networks.calibrated import CalibratedRFDCSANet
    from edge_isp.training.networks.rfdcsanet import RFDCSANet

    torch.manual_seed(0)
    model, channels = (RFDCSANet(), 4) if network == "RFDCSANet" else (CalibratedRFDCSANet(), 8)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        x = torch.rand(1, channels, 17, 22)
        expected = model(x).numpy()
    convolutions = {}
    for merged in (True, False):
        path = tmp_path / f"{merged}.onnx"
        path.write_bytes(to_float_onnx(model, height=17, width=22, channels=channels, merged=merged))
        onnx.checker.check_model(path, full_check=True)
        with OnnxRuntimeEngine(path, threads=1) as engine:
            np.testing.assert_allclose(engine.run([x.numpy()])[0], expected, atol=1e-5)
        convolutions[merged] = sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)
    blocks = sum(type(module).__name__ == "ECB" for module in model.modules())
    assert convolutions[False] == convolutions[True] + 8 * blocks  # 1 + 2 + 3 * 2 in the place of 1
