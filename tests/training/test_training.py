"""Training learns, resumes exactly, and what it writes is what runs: bit for bit from PyTorch to LiteRT."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: the extra [train] brings it")

import torch
from ai_edge_litert import schema_py_generated as schema
from PIL import Image
from typer.testing import CliRunner

from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.profile_file import save_profile
from edge_isp.calibration.shading import Shading
from edge_isp.calibration.simulation import SensorModel
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cli.main import app
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.errors import DatasetError, ModelError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import RawLayout
from edge_isp.kernels.pack import pack
from edge_isp.kernels.tables import encoding_table
from edge_isp.metering.meter import complete_frame
from edge_isp.models.card import find_model, read_card, shipped_models
from edge_isp.sensor_window import SensorWindow
from edge_isp.tasks.isp import IspTask
from edge_isp.training import trainer
from edge_isp.training.export.tflite import to_tflite
from edge_isp.training.graph import Graph, trace
from edge_isp.training.isp.architectures import ARCHITECTURES
from edge_isp.training.isp.picture_objective import picture_objective, validation_samples
from edge_isp.training.networks.ecb import merge
from edge_isp.training.networks.rfdcsanet import RFDCSANet
from edge_isp.training.quantisation.arithmetic import QuantisedGraph, load_quantised
from edge_isp.training.quantisation.aware_training import FakeQuantised
from edge_isp.training.quantisation.post_training import equalise, quantise
from edge_isp.training.simulation.samples import (
    Capture,
    TrainingPairs,
    encode_codes,
    find_photos,
    load_photo,
    noise_planes,
)

WEIGHTS = Path(__file__).parents[2] / "weights"
SENSOR = SensorModel(load_profile("imx219"))


def photo(seed: int = 0, size: int = 96) -> np.typing.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)


def small_schedule(steps: int) -> trainer.Schedule:
    return trainer.Schedule(steps=steps, batch=2, crop=32, learning_rate=1e-3, warm_up=2, seed=5)


def test_training_encodes_as_the_kernel_does() -> None:
    profile = SENSOR.profile
    codes = np.random.default_rng(0).integers(0, 1024, (12, 16)).astype(np.uint16)
    gains = profile.normalised_gains(4000)
    tables = encoding_table(
        bit_depth=10,
        black_level=profile.black_level,
        white_level=profile.white_level,
        gains=gains,
        curve="sqrt",
        scale=1 / 255,
        zero_point=-128,
    )
    out = np.empty((6, 8, 4), np.int8)
    raw = pack(codes, packing="csi2p", bit_depth=10)
    encode(raw, out, RawLayout(16, 12, "csi2p", 10, "RGGB"), tables=tables)
    expected = (out.transpose(2, 0, 1).astype(np.float64) + 128) / 255
    np.testing.assert_allclose(encode_codes(codes, profile, gains), expected, atol=1e-6)


@pytest.mark.parametrize("lens_gain", [1.0, 1.01, 2.9, 3.7])
def test_shaded_crops_are_encoded_as_the_runtime_does_bit_for_bit(lens_gain: float) -> None:
    """A frame whose lens shading is that of the crop everywhere: input and noise planes are the same bytes."""
    profile, kelvin = SENSOR.profile, 4000.0
    assert profile.size is not None
    flat = replace(profile, shading=Shading(rows=1, columns=1, luminance=(lens_gain,)))
    codes = np.arange(1024, dtype=np.uint16).reshape(32, 32).repeat(2, 0).repeat(2, 1)  # every code of every colour
    frame = RawFrame(
        data=pack(codes, packing="u16", bit_depth=10),
        format=RawFormat(64, 64, Cfa.RGGB, 10, Packing.U16),
        source="test",
        sequence=0,
        timestamp_ns=0,
        black_level=flat.black_level,
        white_level=flat.white_level,
        sensor=flat.name,
        analogue_gain=4.0,
        colour_gains=profile.colour_gains(kelvin),
        colour_temperature_k=kelvin,
        window=SensorWindow(0, 0, *profile.size),
        lens_shading=lens_gain != 1,
    )
    lens_gains = (lens_gain, lens_gain, lens_gain)
    task = IspTask(read_card(shipped_models()["rfdcsanet-m-generic"]), profile=flat, tone="srgb")
    out = np.empty(task.input_shape(frame.format), np.int8)
    task.encode(frame, out)
    capture = Capture(kelvin, 1.0, 4.0, lens_gains=lens_gains)
    gains = profile.normalised_gains(kelvin)
    planes = encode_codes(codes, flat, gains, lens_gains)
    noise = np.broadcast_to(noise_planes(SensorModel(flat), capture, gains)[:, None, None], planes.shape)
    found = np.rint(np.concatenate([planes, noise]) * 255).astype(int) - 128
    np.testing.assert_array_equal(found, out[0].transpose(2, 0, 1))


def test_a_batch_depends_on_seed_and_index_only() -> None:
    def pairs(seed: int) -> TrainingPairs:
        return TrainingPairs([photo()], [SENSOR], crop=32, batch=2, seed=seed)

    made = list(pairs(1).batches(0, 4))
    for index, sample in enumerate(made):
        again = pairs(1).make(index)
        for name in ("inputs", "target", "matrix"):
            np.testing.assert_array_equal(getattr(sample, name), getattr(again, name))
    assert sample.inputs.shape == (2, 8, 16, 16)
    assert sample.target.shape == (2, 3, 32, 32)
    assert sample.matrix.shape == (2, 3, 3)
    assert not np.array_equal(made[0].inputs, made[1].inputs)
    assert not np.array_equal(made[0].inputs, pairs(2).make(0).inputs)
    with pytest.raises(DatasetError, match="no photograph is larger than a crop of 128"):
        TrainingPairs([photo()], [SENSOR], crop=128, batch=2, seed=0)


@pytest.mark.parametrize("model", ["rfdcsanet-published", "rfdcsanet-s"])
def test_training_learns_and_resumes_exactly(tmp_path: Path, model: str) -> None:
    schedule, architecture = small_schedule(60), ARCHITECTURES[model]
    objective = picture_objective([photo()], validation_samples([photo(1)], SENSOR), [SENSOR], architecture.colour)

    def run(folder: Path, stop_at: int | None = None) -> tuple[torch.nn.Module | None, list[float]]:
        losses: list[float] = []

        def report(state: trainer.Progress) -> None:
            losses.append(state.loss)
            if state.step == stop_at:
                raise KeyboardInterrupt

        torch.manual_seed(0)
        try:
            network = architecture.build()
            return trainer.train(network, objective(schedule), schedule, folder, report), losses
        except KeyboardInterrupt:
            return None, losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "CHECKPOINT_EVERY", 20)
        whole, losses = run(tmp_path / "whole")
        _, first = run(tmp_path / "parts", stop_at=40)
        resumed, second = run(tmp_path / "parts")
    assert first + second == losses
    assert whole is not None
    assert resumed is not None
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    log = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [20, 40, 60]
    assert log[-1]["validation_psnr_db"]["gain1"] > log[0]["validation_psnr_db"]["gain1"]  # it learns
    assert set(log[0]["validation_psnr_db"]) == {"gain1", "gain4", "gain16"}
    other = small_schedule(25)
    with pytest.raises(ModelError, match="is of another schedule"):
        trainer.train(architecture.build(), objective(other), other, tmp_path / "parts")
    another = ARCHITECTURES["plain-24x4"].build()
    with pytest.raises(ModelError, match="is of another network"):
        trainer.train(another, objective(schedule), schedule, tmp_path / "parts")
    (tmp_path / "parts" / "checkpoint.pt").write_bytes(b"cut off")
    with pytest.raises(ModelError, match=r"checkpoint\.pt: expected weights"):
        trainer.train(architecture.build(), objective(schedule), schedule, tmp_path / "parts")


@pytest.fixture(scope="module")
def quantised() -> QuantisedGraph:
    """A network with weights far from trivial, quantised on random inputs."""
    torch.manual_seed(3)
    network = RFDCSANet()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return quantise(trace(merge(network).eval()), [torch.rand(4, 4, 32, 32) for _ in range(2)])


def run_in_litert(content: bytes, folder: Path, x: np.typing.NDArray[np.int8]) -> np.typing.NDArray[np.int8]:
    (folder / "model.tflite").write_bytes(content)
    with LiteRtEngine(folder / "model.tflite", threads=2) as engine:
        engine.resize(x.shape)
        (out,) = engine.run([x])
    return out


def run_in_pytorch(model: QuantisedGraph, x: np.typing.NDArray[np.int8]) -> np.typing.NDArray[np.int8]:
    with torch.no_grad():
        (out,) = model.run(torch.from_numpy(x).permute(0, 3, 1, 2))
    return out.permute(0, 2, 3, 1).numpy().astype(np.int8)


def difference(a: np.typing.NDArray[np.int8], b: np.typing.NDArray[np.int8]) -> int:
    assert a.shape == b.shape
    assert a.std() > 2  # a residual is small
    return int(np.abs(a.astype(np.int16) - b).max())


@pytest.mark.parametrize("size", [(16, 16), (31, 17), (2, 50)])
def test_int8_file_equals_pytorch_on_random_inputs(
    quantised: QuantisedGraph, tmp_path: Path, size: tuple[int, int]
) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (1, *size, 4)).astype(np.int8)
    file = to_tflite(quantised, height=16, width=16)
    assert difference(run_in_litert(file, tmp_path, x), run_in_pytorch(quantised, x)) <= 1


def test_int8_file_has_our_operators_and_no_others(quantised: QuantisedGraph) -> None:
    model = schema.Model.GetRootAs(to_tflite(quantised, height=16, width=24))
    assert model.SubgraphsLength() == 1
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(i).BuiltinCode() for i in range(model.OperatorCodesLength())]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    used = [names[codes[graph.Operators(i).OpcodeIndex()]] for i in range(graph.OperatorsLength())]
    assert set(used) == {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MUL", "CONCATENATION", "LOGISTIC", "MEAN"}
    # Each RFDB: 3 + 4 + 1 convolutions and 3 additions; its attention: 4 convolutions, 1 depthwise, 1 addition.
    assert used.count("CONV_2D") == 2 * (8 + 4) + 5
    assert used.count("DEPTHWISE_CONV_2D") == 2
    assert used.count("ADD") == 2 * (3 + 1) + 2
    assert list(graph.Tensors(graph.Inputs(0)).ShapeAsNumpy()) == [1, 16, 24, 4]
    assert list(graph.Tensors(graph.Outputs(0)).ShapeAsNumpy()) == [1, 16, 24, 12]


def test_quantisation_aware_training_stays_on_its_grid_inside_autocast(quantised: QuantisedGraph) -> None:
    trained = FakeQuantised(quantised)
    x = torch.rand(1, 4, 16, 16)
    with torch.no_grad():
        expected = trained(x)
        with torch.autocast("cpu", torch.bfloat16):
            found, of_half = trained(x), trained(x.bfloat16())
    assert found.dtype == of_half.dtype == torch.float32
    assert torch.equal(found, expected)
    scale = quantised.tensors[quantised.graph.outputs[0]].scale
    torch.testing.assert_close(found / scale, torch.round(found / scale), atol=1e-3, rtol=0)
    torch.testing.assert_close(of_half / scale, torch.round(of_half / scale), atol=1e-3, rtol=0)


def test_quantisation_aware_training_starts_where_the_integers_are(quantised: QuantisedGraph) -> None:
    trained = FakeQuantised(quantised)
    x = torch.rand(1, 4, 24, 24)
    with torch.no_grad():
        (expected,) = quantised.run_real(x)
        assert ((trained(x) - expected).abs() * 255).mean() < 1
    for name, weights in trained.quantised().weights.items():
        np.testing.assert_array_equal(weights.weight, quantised.weights[name].weight)
    trained(x).square().mean().backward()
    fixed = [name for name, parameter in trained.weights.items() if not parameter.requires_grad]
    assert fixed == ["anchor"]
    untrained = [
        n for n, p in trained.weights.items() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]
    # A squeeze whose ReLU is closed everywhere has none, nor has what it excites.
    assert [name for name in untrained if "squeeze" not in name and "excite" not in name] == []


@pytest.mark.parametrize("model", ["rfdcsanet-s", "rfdcsanet-published"])
def test_equalised_channels_compute_the_same_with_less_rounding(model: str) -> None:
    architecture = ARCHITECTURES[model]
    torch.manual_seed(4)
    graph = trace(merge(architecture.build()).eval())
    uneven = []
    for node in graph.nodes:  # channels of very different range, as long training makes them
        weight, bias = node.weight, node.bias
        if node.name.endswith(("refine_0", "refine1")):
            assert weight is not None
            assert bias is not None
            factor = torch.logspace(-1.5, 1.5, len(weight))
            weight, bias = weight * factor[:, None, None, None], bias * factor
        uneven.append(replace(node, weight=weight, bias=bias))
    graph = replace(graph, nodes=tuple(uneven))
    samples = [torch.rand(2, architecture.colour.input_planes, 24, 24) for _ in range(2)]
    equalised = equalise(graph, samples)
    truth = graph.run(samples[0])[graph.outputs[0]]
    with torch.no_grad():
        torch.testing.assert_close(equalised.run(samples[0])[graph.outputs[0]], truth, atol=1e-3, rtol=1e-3)
    refined = next(n.name for n in graph.nodes if n.name.endswith("refine_0" if model == "rfdcsanet-s" else "refine1"))

    def spread(of: Graph) -> float:
        largest = of.run(samples[0])[refined].amax((0, 2, 3))
        return float(largest.max() / largest[largest > 0].median())

    assert model == "rfdcsanet-published" or spread(equalised) < spread(graph) / 4


SHIPPED = [name for name, path in shipped_models().items() if read_card(path).task == "isp"]


def shipped(name: str) -> tuple[QuantisedGraph, IspTask]:
    """A shipped model as PyTorch has it, from the weights that were trained, and its task."""
    network = ARCHITECTURES[name.rpartition("-")[0]].build()
    return load_quantised(WEIGHTS / f"{name}-int8.pt", trace(merge(network))), IspTask(
        find_model(name, None), tone="srgb"
    )


def test_the_weights_of_every_shipped_model_are_here() -> None:
    for kind in ("float", "int8"):
        assert sorted(path.name.removesuffix(f"-{kind}.pt") for path in WEIGHTS.glob(f"*-{kind}.pt")) == list(
            shipped_models()
        )


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_file_is_what_its_weights_export_to(name: str) -> None:
    model, task = shipped(name)
    shape = task.card.input.shape
    assert to_tflite(model, height=shape[1], width=shape[2], channels=shape[3]) == task.card.path.read_bytes()


NIKON = """[format]
width = 768
height = 512
cfa = "RGGB"
bit_depth = 14
packing = "u16"
[sensor]
black_level = [600, 600, 600, 600]
white_level = 15520
[frame]
colour_gains = [1.949, 1.344]
"""
OPENISP = """[format]
width = 1920
height = 1080
cfa = "RGGB"
bit_depth = 10
packing = "u16"
[sensor]
black_level = [0, 0, 0, 0]
white_level = 1023
"""


NIKON_FILE, OPENISP_FILE = "DSC_1339_768x512_rggb.raw", "openisp_test_1920x1080_rggb10_le16.raw"


@pytest.mark.parametrize(
    ("model_name", "name", "sidecar"),
    [
        ("rfdcsanet-published-imx219", NIKON_FILE, NIKON),
        ("rfdcsanet-published-imx219", OPENISP_FILE, OPENISP),
        ("rfdcsanet-published-imx219", "colorchart.dng", None),
        ("rfdcsanet-s-generic", NIKON_FILE, NIKON),
        ("rfdcsanet-s-generic", OPENISP_FILE, OPENISP),
        ("rfdcsanet-s-generic", "colorchart.dng", None),
        ("rfdcsanet-m-generic", NIKON_FILE, NIKON),
    ],
)
def test_the_shipped_file_equals_pytorch_on_real_frames(
    data: Path, tmp_path: Path, model_name: str, name: str, sidecar: str | None
) -> None:
    path = tmp_path / name
    path.write_bytes((data / "raw" / name).read_bytes())
    if sidecar:
        path.with_suffix(".toml").write_text(sidecar)
    model, task = shipped(model_name)
    with ReplayCamera(path) as camera:
        frame = camera.read()
    assert frame
    frame = complete_frame(frame)  # one of them has no colour gains
    x = np.empty(task.input_shape(frame.format), np.int8)
    task.encode(frame, x)
    assert difference(run_in_litert(task.card.path.read_bytes(), tmp_path, x), run_in_pytorch(model, x)) <= 1


def test_train_command(tmp_path: Path, data_free_photos: Callable[[], Path]) -> None:
    photos = data_free_photos()
    profile = tmp_path / "new.toml"
    save_profile(replace(SENSOR.profile, name="new", noise=None), profile)
    run = CliRunner()
    arguments = ["train", "isp", "--photos", photos, "--out", tmp_path / "run", "--steps", 3, "--quantised-steps", 2]
    arguments += ["--batch", 2, "--crop", 32, "--validation", "photo2", "--sensor", profile]
    arguments += ["--init", WEIGHTS / "rfdcsanet-s-generic-float.pt"]
    result = run.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    assert "sensor profile 'new' has no noise" in result.output
    card = find_model(str(tmp_path / "run" / "rfdcsanet-s-new.tflite"), None)
    assert card.sensor == "new"
    card.verify_file()
    with LiteRtEngine(card.path) as engine:
        IspTask(card).verify(engine.inputs, engine.outputs)
    assert card.document["training"]["photographs"] == 2
    assert set(card.document["quality"]) == {
        f"{arithmetic}_gain{gain}_psnr_db" for arithmetic in ("float32", "ptq", "qat") for gain in (1, 4, 16)
    }


@pytest.fixture
def data_free_photos(tmp_path: Path) -> Callable[[], Path]:
    def make() -> Path:
        folder = tmp_path / "photos"
        folder.mkdir()
        for i in range(3):
            Image.fromarray(photo(i, 640)).save(folder / f"photo{i}.png")
        return folder

    return make


def test_a_folder_without_photographs(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no photographs"):
        find_photos(tmp_path)


def test_a_photograph_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"photo\.png: cannot be read as a photograph"):
        load_photo(tmp_path / "photo.png")


@pytest.mark.parametrize(
    ("network", "crop", "side"), [("rfdcsanet-s", 18, 4), ("rfdcsanet-csa", 48, 32), ("rfdcsanet-m", 33, 2)]
)
def test_crops_must_be_whole_inputs_of_the_network(
    tmp_path: Path, data_free_photos: Callable[[], Path], network: str, crop: int, side: int
) -> None:
    arguments = ["train", "isp", "--photos", data_free_photos(), "--out", tmp_path / "run", "--network", network]
    result = CliRunner().invoke(app, [str(a) for a in [*arguments, "--crop", crop, "--steps", 1]])
    assert isinstance(result.exception, DatasetError)
    assert str(result.exception) == (
        f"crops for the network '{network}' must be a multiple of {side} pixels, found {crop}: give another --crop"
    )
    assert not (tmp_path / "run").exists()


def test_validation_photographs_must_be_there(tmp_path: Path, data_free_photos: Callable[[], Path]) -> None:
    arguments = ["train", "isp", "--photos", data_free_photos(), "--out", tmp_path / "run", "--validation", "photo7"]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(result.exception, DatasetError)
    assert "no photograph is called 'photo7'" in str(result.exception)
