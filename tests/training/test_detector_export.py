"""YOLOX-Nano as integers: one file and its card for every size, in LiteRT as in PyTorch, and its exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

pytest.importorskip("torch", reason="PyTorch is not installed: the extra [train] brings it")

import torch

from edge_isp.cli.main import app
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.onnxruntime import OnnxRuntimeEngine
from edge_isp.errors import ModelError
from edge_isp.models.card import ModelCard, read_card
from edge_isp.models.export import Export, export_model
from edge_isp.tasks.detect import DetectTask
from edge_isp.training.detector.card import write_detector_model
from edge_isp.training.graph import trace
from edge_isp.training.networks.yolox import CLASSES, YoloxNano, fold, load_teacher
from edge_isp.training.quantisation.arithmetic import QuantisedGraph
from edge_isp.training.quantisation.silu import quantise_silu_network
from tests.training.delegated import planned_operators

NAMES = [f"class {i}" for i in range(CLASSES)]


@pytest.fixture(scope="module")
def quantised() -> QuantisedGraph:
    """A network that was not trained."""
    torch.manual_seed(0)
    network = YoloxNano().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.7)
    graph = trace(network)
    logits = [name for name in graph.outputs if "boxes" not in name]
    return quantise_silu_network(graph, [torch.rand(2, 4, 64, 64)], logits=logits)


@pytest.fixture(scope="module")
def card(quantised: QuantisedGraph, tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    folder = tmp_path_factory.mktemp("detector")
    path = write_detector_model(
        quantised,
        folder,
        name="tiny-generic",
        sensor="generic",
        classes=NAMES,
        training={"steps": 0, "teacher": "none"},
        quality={"int8_ap": 1.5},
    )
    return read_card(path.with_suffix(".toml"))


def random_input(side: int) -> NDArray[np.int8]:
    return np.random.default_rng(side).integers(-128, 128, (1, side // 2, side // 2, 4)).astype(np.int8)


def in_pytorch(model: QuantisedGraph, x: NDArray[np.int8]) -> list[NDArray[np.int8]]:
    with torch.no_grad():
        return [
            out.permute(0, 2, 3, 1).numpy().astype(np.int8)
            for out in model.run(torch.from_numpy(x).permute(0, 3, 1, 2))
        ]


def test_the_card_says_what_the_file_is(card: ModelCard) -> None:
    card.verify_file()
    assert (card.task, card.sensor, card.classes) == ("detector", "generic", tuple(NAMES))
    assert (card.input.shape, card.input.layout, card.input.curve) == ((1, 208, 208, 4), "rggb", "sqrt")
    assert (card.input.scale, card.input.zero_point) == (1 / 255, -128)
    assert [(output.stride, output.layout, output.shape) for output in card.outputs] == [
        (stride, layout, (1, 416 // stride, 416 // stride, channels))
        for stride in (8, 16, 32)
        for layout, channels in (("box", 4), ("objectness", 1), ("class", 80))
    ]
    assert card.document["training"] == {"steps": 0, "teacher": "none"}
    assert card.document["quality"] == {"int8_ap": 1.5}
    with LiteRtEngine(card.path, threads=1) as engine:
        DetectTask(card).verify(engine.inputs, engine.outputs)


def test_a_card_of_other_classes_is_refused(quantised: QuantisedGraph, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 2 channels, for 'class'; found 80"):
        write_detector_model(
            quantised, tmp_path, name="x", sensor="generic", classes=["cat", "dog"], training={}, quality={}
        )


def test_one_file_computes_every_size_as_pytorch_does(card: ModelCard, quantised: QuantisedGraph) -> None:
    with LiteRtEngine(card.path, threads=1) as engine:
        for side in (64, 320, 640, 416):
            x = random_input(side)
            engine.resize(x.shape)
            found = engine.run([x])
            assert [out.shape[1] for out in found] == [side // stride for stride in (8, 16, 32) for _ in range(3)]
            _, operators = planned_operators(card.path, x.shape)
            assert [entry["op_name"] for entry in operators].count("DELEGATE") == 1
            if side <= 320:
                for a, b in zip(in_pytorch(quantised, x), found, strict=True):
                    assert a.std() > 2
                    np.testing.assert_array_equal(a, b)


def test_a_static_file_computes_what_its_source_does(card: ModelCard, tmp_path: Path) -> None:
    path = export_model(card, tmp_path, Export("tflite", size=(96, 64)))
    assert path.name == "tiny-generic-96x64.tflite"
    exported = read_card(path.with_suffix(".toml"))
    assert exported.input.shape == (1, 32, 48, 4)
    assert exported.outputs[-1].shape == (1, 2, 3, 80)
    x = random_input(96)[:, :32]
    with LiteRtEngine(path, threads=1) as static, LiteRtEngine(card.path, threads=1) as source:
        DetectTask(exported).verify(static.inputs, static.outputs)
        source.resize(x.shape)
        for a, b in zip(source.run([x]), static.run([x]), strict=True):
            np.testing.assert_array_equal(a, b)


def test_onnx_of_every_size(card: ModelCard, quantised: QuantisedGraph, tmp_path: Path) -> None:
    path = export_model(card, tmp_path, Export("onnx"))
    exported = read_card(path.with_suffix(".toml"))
    with OnnxRuntimeEngine(path, threads=1) as engine:
        DetectTask(exported).verify(engine.inputs, engine.outputs)
        for side in (64, 128):
            x = random_input(side)
            engine.resize(x.shape)
            expected, found = in_pytorch(quantised, x), engine.run([x])
            assert [a.shape for a in expected] == [b.shape for b in found]
            # The runtimes round additions differently, once in many values, and a deep network enlarges that.
            differences = [np.abs(a.astype(int) - b).ravel() for a, b in zip(expected, found, strict=True)]
            assert np.concatenate(differences).mean() < 0.5


def test_export_command(card: ModelCard, tmp_path: Path) -> None:
    source = str(card.path)
    arguments = ["--out", str(tmp_path), "--format", "tflite", "--model", source, "--size", "64x64"]
    result = CliRunner().invoke(app, ["export", "detector", *arguments])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "tiny-generic-64x64.tflite").exists()
    with pytest.raises(ModelError, match="is of the task 'detector': export it with 'edge-isp export detector'"):
        CliRunner().invoke(app, ["export", "isp", *arguments], catch_exceptions=False)
    with pytest.raises(ModelError, match="size must be whole steps of 32 for 'tiny-generic'; found 100x64"):
        export_model(card, tmp_path, Export("tflite", size=(100, 64)))


def test_the_teachers_weights_are_the_same_integers_in_litert(data: Path, tmp_path: Path) -> None:
    graph = trace(fold(load_teacher(data / "teachers" / "yolox_nano.onnx")).eval())
    model = quantise_silu_network(graph, [torch.rand(1, 4, 64, 64).square()])
    assert model.graph.nodes[1].name == "stem_convolution_gate"
    path = write_detector_model(model, tmp_path, name="x", sensor="generic", classes=NAMES, training={}, quality={})
    with LiteRtEngine(path, threads=1) as engine:
        x = random_input(160)
        engine.resize(x.shape)
        for a, b in zip(in_pytorch(model, x), engine.run([x]), strict=True):
            np.testing.assert_array_equal(a, b)
