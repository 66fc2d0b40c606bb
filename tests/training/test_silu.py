"""Networks with SiLU, strides, maxima and upsampling: the same integers in PyTorch, LiteRT and ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="PyTorch is not installed: the extra [train] brings it")

import torch
from torch import nn
from torch.nn import functional as F

from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.onnxruntime import OnnxRuntimeEngine
from edge_isp.errors import ModelError
from edge_isp.models.qdq_onnx import qdq_onnx
from edge_isp.models.tflite_graph import TfliteGraph
from edge_isp.training.export.onnx_float import to_float_onnx
from edge_isp.training.export.tflite import to_tflite
from edge_isp.training.graph import Graph, trace
from edge_isp.training.quantisation.arithmetic import QuantisedGraph, save_quantised
from edge_isp.training.quantisation.aware_training import FakeQuantised
from edge_isp.training.quantisation.silu import (
    GATE_SUFFIX,
    channel_ranges,
    equalise_silus,
    find_silus,
    load_quantised_silu_network,
    min_max_quantised,
    quantise_silu_network,
    split_gates,
)
from tests.training.delegated import planned_operators

Int8 = NDArray[np.int8]


class Small(nn.Module):
    """A detector's operators, once each: strides of both kinds, maxima, upsampling, a residual; two outputs."""

    def __init__(self, *, uneven: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, 2, 1, groups=16)
        self.pointwise = nn.Conv2d(16, 24, 1)
        self.strided = nn.Conv2d(24, 24, 3, 2, 1)
        self.pools = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13))
        self.join = nn.Conv2d(96, 24, 1)
        self.residual = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.fuse = nn.Conv2d(48, 8, 1)
        self.boxes, self.classes = nn.Conv2d(8, 4, 1), nn.Conv2d(24, 5, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(2)
            if uneven:  # channels of very different range, as long training makes them
                self.stem.weight.mul_(torch.logspace(-1, 1.5, 16)[:, None, None, None])
                self.depthwise.weight.div_(torch.logspace(-1, 1.5, 16)[:, None, None, None])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor]]:
        x = F.silu(self.pointwise(F.silu(self.depthwise(F.silu(self.stem(x))))))
        low = F.silu(self.strided(x))
        low = F.silu(self.join(torch.cat([low, *(pool(low) for pool in self.pools)], 1)))
        low = low + F.silu(self.residual(low))
        x = F.silu(self.fuse(torch.cat((F.interpolate(low, scale_factor=2, mode="nearest"), x), 1)))
        return self.boxes(x), (self.classes(low),)


_READ_BY_CONVOLUTIONS = ("stem", "depthwise", "pointwise", "fuse")


def made(seed: int = 0, *, uneven: bool = False) -> tuple[Small, Graph, list[torch.Tensor]]:
    torch.manual_seed(seed)
    network = Small(uneven=uneven).eval()
    return network, trace(network), [torch.rand(2, 4, 32, 48) for _ in range(3)]


def random_input(size: tuple[int, int]) -> Int8:
    x = np.random.default_rng(1).integers(-128, 128, (1, *size, 4)).astype(np.int8)
    x[:, : size[0] // 2] = np.clip(x[:, : size[0] // 2], -128, -90)  # a dark half
    return x


def in_pytorch(model: QuantisedGraph, x: Int8) -> list[Int8]:
    with torch.no_grad():
        found = model.run(torch.from_numpy(x).permute(0, 3, 1, 2))
    return [out.permute(0, 2, 3, 1).numpy().astype(np.int8) for out in found]


def largest_difference(expected: list[Int8], found: list[Int8]) -> int:
    assert [a.shape for a in expected] == [b.shape for b in found]
    assert all(a.std() > 2 for a in expected)
    return max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(expected, found, strict=True))


def test_the_graph_computes_what_the_network_does() -> None:
    network, graph, (x, *_) = made()
    assert len(graph.outputs) == 2
    with torch.no_grad():
        boxes, (classes,) = network(x)
        tensors = graph.run(x)
    for expected, name in zip((boxes, classes), graph.outputs, strict=True):
        torch.testing.assert_close(tensors[name], expected)
    with pytest.raises(ValueError, match="of another resolution than the input has no receptive_field_radius"):
        assert graph.receptive_field_radius


@pytest.mark.parametrize(
    "refused",
    [
        nn.Conv2d(4, 4, 4, 2, 1),
        nn.Conv2d(4, 4, 3, 3, 1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, (3, 1), padding=1),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.MaxPool2d(2),
        nn.MaxPool2d(4, 1, 2),
        nn.Upsample(scale_factor=2),
    ],
)
def test_what_cannot_be_exported(refused: nn.Module) -> None:
    with pytest.raises(ValueError, match="is not an operator that can be exported"):
        trace(nn.Sequential(nn.Conv2d(4, 4, 1), refused))


@pytest.mark.parametrize("seed", range(3))
def test_int8_is_the_same_everywhere(seed: int, tmp_path: Path) -> None:
    _, graph, samples = made(seed, uneven=seed == 2)
    model = quantise_silu_network(graph, samples, logits=graph.outputs[1:])
    assert any(node.name.endswith(GATE_SUFFIX) for node in model.graph.nodes) is (seed == 2)
    path = tmp_path / "model.tflite"
    path.write_bytes(to_tflite(model, height=32, width=48))
    with LiteRtEngine(path, threads=1) as engine:
        for size in ((32, 48), (16, 4), (40, 52), (4, 4)):
            x = random_input(size)
            engine.resize(x.shape)
            assert largest_difference(in_pytorch(model, x), engine.run([x])) == 0
            # The whole graph is one partition of the delegate.
            _, operators = planned_operators(path, x.shape)
            assert [entry["op_name"] for entry in operators].count("DELEGATE") == 1


def test_every_operator_is_delegated(tmp_path: Path) -> None:
    _, graph, samples = made(2, uneven=True)
    model = quantise_silu_network(graph, samples)
    path = tmp_path / "model.tflite"
    path.write_bytes(to_tflite(model, height=32, width=48))
    interpreter, operators = planned_operators(path, (1, 32, 48, 4))
    (delegated,) = [entry for entry in operators if entry["op_name"] == "DELEGATE"]
    # What enters it is the model's input and constants, what leaves it is the model's outputs: nothing runs besides it.
    outputs = [entry["index"] for entry in interpreter.get_output_details()]
    assert sorted(delegated["outputs"]) == sorted(outputs)
    computed = {index for entry in operators if entry is not delegated for index in entry["outputs"]}
    assert not computed.intersection(delegated["inputs"])


def test_onnx_computes_the_integers_of_the_tflite(tmp_path: Path) -> None:
    _, graph, samples = made(2, uneven=True)
    model = quantise_silu_network(graph, samples)
    content = to_tflite(model, height=32, width=48)
    for static in (True, False):
        parsed = TfliteGraph(content, "model.tflite")
        parsed.resize(16, 32)
        path = tmp_path / "model.onnx"
        path.write_bytes(qdq_onnx(parsed, static=static, rgb=False))
        with OnnxRuntimeEngine(path, threads=1) as engine:
            for size in ((16, 32),) if static else ((16, 32), (24, 8)):
                x = random_input(size)
                engine.resize(x.shape)
                assert [info.shape for info in engine.outputs] == [out.shape for out in in_pytorch(model, x)]
                for info, name in zip(engine.outputs, model.graph.outputs, strict=True):
                    assert info.scale == pytest.approx(model.tensors[name].scale)
                    assert info.zero_point == model.tensors[name].zero_point
                assert largest_difference(in_pytorch(model, x), engine.run([x])) <= 2


def test_padding_before_a_convolution_that_pads_itself_is_refused() -> None:
    _, graph, samples = made()
    parsed = TfliteGraph(to_tflite(quantise_silu_network(graph, samples), height=32, width=48), "theirs.tflite")
    place = next(i for i, operator in enumerate(parsed.operators) if operator.stride == 2)
    options = parsed.model.subgraphs[0].operators[place].builtinOptions
    options.strideH = options.strideW = 1
    options.padding = 0  # SAME
    with pytest.raises(ModelError, match="expected padding of its own, since its stride is 1; found an operator PAD"):
        TfliteGraph(parsed.to_bytes(), "theirs.tflite")


def test_float_onnx_equals_pytorch(tmp_path: Path) -> None:
    network, _, (x, *_) = made()
    path = tmp_path / "model.onnx"
    path.write_bytes(to_float_onnx(network, height=32, width=48, channels=4, merged=True))
    onnx.checker.check_model(path, full_check=True)
    with torch.no_grad(), OnnxRuntimeEngine(path, threads=1) as engine:
        boxes, (classes,) = network(x[:1])
        for expected, found in zip((boxes, classes), engine.run([x[:1].numpy()]), strict=True):
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_gates_of_their_own_change_nothing_in_float() -> None:
    _, graph, samples = made(uneven=True)
    double = replace(
        graph,
        nodes=tuple(
            replace(
                node,
                weight=None if node.weight is None else node.weight.double(),
                bias=None if node.bias is None else node.bias.double(),
            )
            for node in graph.nodes
        ),
    )
    ranges = channel_ranges(graph, samples)
    # The stem's, the depthwise's, the pointwise's (through a concatenation), and the last; the others are pooled, added
    # or upsampled.
    read_by_convolutions = [silu.product for silu in find_silus(graph) if silu.value in _READ_BY_CONVOLUTIONS]
    for name in ranges:
        if name not in read_by_convolutions:
            with pytest.raises(ValueError, match="is read by something else than convolutions"):
                split_gates(graph, {name: ranges[name]})
    readable = {name: ranges[name].double() for name in read_by_convolutions}
    assert len(split_gates(double, readable).nodes) == len(graph.nodes) + 4
    x = samples[0].double()
    expected, found = double.run(x), split_gates(double, readable).run(x)
    for name in graph.outputs:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-10)


def test_uneven_channels_get_gates_of_their_own_and_lose_less() -> None:
    _, graph, samples = made(uneven=True)
    equalised = equalise_silus(graph, samples)
    split = [silu for silu in find_silus(equalised) if silu.gate != silu.value]
    assert [silu.value for silu in split] == ["stem"]
    even = channel_ranges(equalised, samples)[split[0].product]
    assert even.max() < 3 * even.median()

    def error(model: QuantisedGraph) -> float:
        with torch.no_grad():
            truth = graph.run(samples[0])
            found = model.run_real(samples[0])
        return sum(
            float((a - truth[name]).square().mean() / truth[name].var())
            for a, name in zip(found, graph.outputs, strict=True)
        )

    assert error(quantise_silu_network(graph, samples)) < error(min_max_quantised(graph, samples)) / 10


def test_quantisation_aware_training_learns_and_is_found_again(tmp_path: Path) -> None:
    _, graph, samples = made(uneven=True)
    model = quantise_silu_network(graph, samples)
    trained = FakeQuantised(model)
    x = samples[0]
    with torch.no_grad():
        truth = [graph.run(x)[name] for name in graph.outputs]
        for name, expected, found in zip(graph.outputs, model.run_real(x), trained(x), strict=True):
            assert ((expected - found).abs() / model.tensors[name].scale).mean() < 1
        for bias in trained.biases.values():  # something to learn
            bias.add_(0.2)
    optimizer = torch.optim.Adam(trained.parameters(), 2e-3)
    losses = []
    for _ in range(10):
        loss = sum(F.mse_loss(found, expected) for found, expected in zip(trained(x), truth, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.parameters())
    learnt = trained.quantised()
    save_quantised(learnt, tmp_path / "model.pt")
    again = load_quantised_silu_network(tmp_path / "model.pt", graph)
    assert to_tflite(again, height=32, width=32) == to_tflite(learnt, height=32, width=32)
    x8 = random_input((32, 32))
    assert largest_difference(in_pytorch(learnt, x8), in_pytorch(again, x8)) == 0
