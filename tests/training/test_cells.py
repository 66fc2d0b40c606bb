"""Networks on cells of 4x4 pixels, with windows, and with a residual in two steps: training and run time agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="PyTorch is not installed: the extra [train] brings it")

import torch

from edge_isp.calibration.light import srgb_encode
from edge_isp.calibration.profile import load_profile
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.tiled import TiledEngine
from edge_isp.errors import ModelError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.layout import CELL_PLANES, flips_to_rggb, input_size
from edge_isp.kernels.pack import pack
from edge_isp.kernels.reference import on_cells
from edge_isp.kernels.residual import TONE_ENTRIES, decode_residual
from edge_isp.models.card import read_card
from edge_isp.pipeline.tiling import Tiling
from edge_isp.tasks.isp import IspTask
from edge_isp.training.export.tflite import to_tflite
from edge_isp.training.graph import trace
from edge_isp.training.isp.architectures import ARCHITECTURES
from edge_isp.training.isp.card import write_isp_model
from edge_isp.training.isp.colour import CALIBRATED, CALIBRATED_4X4, CALIBRATED_IN_TWO, Colour
from edge_isp.training.networks.calibrated import CalibratedRFDCSANet
from edge_isp.training.networks.ecb import merge
from edge_isp.training.networks.rfdcsanet import CSA
from edge_isp.training.networks.windowed_csa import HALVINGS, WindowedCSA
from edge_isp.training.quantisation.arithmetic import QuantisedGraph, load_quantised, save_quantised
from edge_isp.training.quantisation.aware_training import FakeQuantised
from edge_isp.training.quantisation.post_training import quantise
from edge_isp.training.simulation.patterns import pattern

WINDOW = 2**HALVINGS


def random_network(name: str) -> QuantisedGraph:
    """A network whose output is far from 0 everywhere, quantised."""
    torch.manual_seed(6)
    architecture = ARCHITECTURES[name]
    network = architecture.build()
    with torch.no_grad():
        for parameter in network.tail.parameters():
            parameter.mul_(8)
    samples = [torch.rand(1, architecture.colour.input_planes, 2 * WINDOW, 2 * WINDOW)]
    return quantise(trace(merge(network).eval()), samples, output=architecture.colour.output)


@pytest.fixture(scope="module", params=["rfdcsanet-t", "rfdcsanet-csa"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = str(request.param)
    return write_isp_model(
        random_network(name),
        tmp_path_factory.mktemp("model"),
        name=f"{name}-random",
        sensor="generic",
        colour=ARCHITECTURES[name].colour,
        training={"steps": 0},
        quality={},
    )


def frame(codes: NDArray[np.uint16], cfa: str = "RGGB") -> RawFrame:
    profile = load_profile("imx219")
    return RawFrame(
        data=pack(codes, packing="u16", bit_depth=10),
        format=RawFormat(codes.shape[1], codes.shape[0], Cfa(cfa), 10, Packing.U16),
        source="test",
        sequence=0,
        timestamp_ns=0,
        black_level=profile.black_level,
        white_level=profile.white_level,
        sensor="imx219",
        analogue_gain=2.0,
        colour_gains=profile.colour_gains(5000.0),
        colour_temperature_k=5000.0,
    )


def developed(path: Path, of: RawFrame) -> NDArray[np.uint8]:
    task = IspTask(read_card(path.with_suffix(".toml")), correct_defects=False)
    tensor = np.empty(task.input_shape(of.format), np.int8)
    task.encode(of, tensor)
    with LiteRtEngine(path) as engine:
        engine.resize(tensor.shape)
        return task.decode(engine.run([tensor]), of, tensor).rgb


@pytest.mark.parametrize(("colour", "planes"), [(CALIBRATED_4X4, 48), (CALIBRATED_IN_TWO, 24)])
def test_a_picture_in_training_is_the_kernels(colour: Colour, planes: int) -> None:
    """Codes of all values, those at the ends of their range among them, and odd numbers of 4x4 cells."""
    rng = np.random.default_rng(4)
    size = (10, 14)  # in 2x2 cells
    cells = rng.integers(-128, 128, (*size, 8)).astype(np.int8)
    encoded = on_cells(cells, colour.cell, 1)
    output = rng.integers(-127, 128, (*encoded.shape[:2], planes)).astype(np.int8)
    matrix = np.asarray(load_profile("imx219").colour_matrix(5000.0))
    tone = np.rint(255 * srgb_encode(np.arange(TONE_ENTRIES) / (TONE_ENTRIES - 1))).astype(np.uint8)
    picture = np.empty((2 * size[0], 2 * size[1], 3), np.uint8)
    decode_residual(output, encoded, picture, matrix=matrix, tone=tone, cell=colour.cell)

    def tensor(array: NDArray[np.int8]) -> torch.Tensor:
        return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1)[None]

    inputs = (tensor(cells) + 128) / 255
    torch.testing.assert_close(colour.network_input(inputs), (tensor(encoded) + 128) / 255)
    rendered = colour.render(
        colour.output.dequantise(tensor(output)), inputs, torch.from_numpy(matrix.astype(np.float32))[None]
    )
    found = np.rint(rendered[0].permute(1, 2, 0).numpy() * 255)
    assert np.abs(found - picture).max() <= 1


@pytest.mark.parametrize("size", [(64, 96), (66, 98), (34, 30), (2, 2), (66, 110)])
@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_every_even_size_and_cfa_order_gives_the_mirrored_picture(model: Path, size: tuple[int, int], cfa: str) -> None:
    """A frame of another order is the RGGB frame of the mirrored scene: its picture is that one, mirrored."""
    codes = np.random.default_rng(8).integers(64, 1024, size).astype(np.uint16)
    flips = flips_to_rggb(cfa)
    rows, columns = slice(None, None, -1 if flips.vertical else 1), slice(None, None, -1 if flips.horizontal else 1)
    expected = developed(model, frame(codes))
    found = developed(model, frame(np.ascontiguousarray(codes[rows, columns]), cfa))
    assert found.shape == (*size, 3)
    np.testing.assert_array_equal(found[rows, columns], expected)


def test_what_lies_beyond_a_frame_is_mirrored(model: Path) -> None:
    """A frame of a size that is not whole gives what the mirrored frame of the next whole size gives."""
    codes = np.random.default_rng(9).integers(64, 1024, (34, 54)).astype(np.uint16)
    card = read_card(model.with_suffix(".toml"))
    rows, columns = (side * card.cell for side in card.input_size(54, 34))
    blocks = codes.reshape(17, 2, 27, 2)  # cells are mirrored, the pixels in them are not
    padded = np.pad(blocks, ((0, rows // 2 - 17), (0, 0), (0, columns // 2 - 27), (0, 0)), mode="symmetric")
    whole = developed(model, frame(np.ascontiguousarray(padded.reshape(rows, columns))))
    np.testing.assert_array_equal(developed(model, frame(codes)), whole[:34, :54])


@pytest.mark.parametrize("tile", [(96, 96), (112, 160)])
def test_tiles_begin_with_a_window_and_are_exact(model: Path, tile: tuple[int, int]) -> None:
    card = read_card(model.with_suffix(".toml"))
    assert card.receptive_field_radius is not None
    shape = (1, 160, 208, card.input.shape[3])
    tensor = np.random.default_rng(2).integers(-128, 128, shape).astype(np.int8)
    arguments: dict[str, Any] = {"path": model, "tile_for": lambda size: tile}
    with LiteRtEngine(model) as engine, LiteRtEngine(model) as whole:
        whole.resize(shape)
        (expected,) = whole.run([tensor])
        cut = TiledEngine(engine, radius=card.receptive_field_radius, multiple=card.input_multiple, **arguments)
        cut.resize(shape)
        np.testing.assert_array_equal(cut.run([tensor])[0], expected)
        assert cut.report.tile == tile
        too_little = TiledEngine(
            engine, radius=card.receptive_field_radius // 2, multiple=card.input_multiple, **arguments
        )
        too_little.resize(shape)
        assert not np.array_equal(too_little.run([tensor])[0], expected)


def test_a_tile_is_asked_for_in_pixels(model: Path) -> None:
    card = read_card(model.with_suffix(".toml"))
    tiling = Tiling(card, tile=(1280, 720), budget_bytes=None)
    assert tiling.choose((10**4, 10**4)) == card.input_size(1280, 720)
    with pytest.raises(ModelError, match=r"a tile for .* must be at least \d+x\d+ pixels.*found 32x32"):
        Tiling(card, tile=(32, 32), budget_bytes=None)


@pytest.mark.parametrize("size", [(WINDOW, WINDOW), (3 * WINDOW, 5 * WINDOW)])
def test_the_file_with_windows_is_what_pytorch_computes(tmp_path: Path, size: tuple[int, int]) -> None:
    quantised = random_network("rfdcsanet-csa")
    path = tmp_path / "windows.tflite"
    path.write_bytes(to_tflite(quantised, height=WINDOW, width=WINDOW, channels=8))
    x = np.random.default_rng(1).integers(-128, 128, (1, *size, 8)).astype(np.int8)
    with LiteRtEngine(path) as engine:
        engine.resize(x.shape)
        (found,) = engine.run([x])
    with torch.no_grad():
        (expected,) = quantised.run(torch.from_numpy(x).permute(0, 3, 1, 2))
    difference = np.abs(found[0].astype(int) - expected[0].permute(1, 2, 0).numpy())
    assert found.std() > 10
    assert difference.max() <= 1


def test_a_window_is_a_part_of_the_receptive_field() -> None:
    graph = trace(merge(CalibratedRFDCSANet(blocks=1, attention=WindowedCSA)).eval())
    assert graph.input_multiple == WINDOW
    # Head and tail, three 3x3 convolutions, and the rest of a window.
    assert graph.receptive_field_radius == 2 + 3 + WINDOW - 1
    assert trace(merge(CalibratedRFDCSANet(blocks=1)).eval()).input_multiple == 1


def test_means_of_windows_are_not_trained() -> None:
    trained = FakeQuantised(random_network("rfdcsanet-csa"))
    fixed = {name for name, weight in trained.weights.items() if not weight.requires_grad}
    assert len(fixed) == 2 * HALVINGS
    assert all("halvings" in name for name in fixed)
    for name in fixed:
        assert float(trained.weights[name].sum((2, 3)).sub(1).abs().max()) < 1e-6
    found = trained.quantised()
    assert {node.name for node in found.graph.nodes if not node.trained} == fixed


def test_weights_with_windows_are_saved_and_read(tmp_path: Path) -> None:
    quantised = random_network("rfdcsanet-csa")
    save_quantised(quantised, tmp_path / "int8.pt")
    graph = trace(merge(ARCHITECTURES["rfdcsanet-csa"].build()).eval())
    loaded = load_quantised(tmp_path / "int8.pt", graph)
    assert loaded.tensors == quantised.tensors
    assert loaded.graph.receptive_field_radius == quantised.graph.receptive_field_radius


def test_a_network_begins_where_published_attention_ended() -> None:
    """On one window, whose mean is the picture's, both attentions are one function; so is a residual in two steps."""
    torch.manual_seed(2)
    published = CalibratedRFDCSANet(blocks=2, attention=CSA)
    with torch.no_grad():
        for parameter in published.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    windowed = ARCHITECTURES["rfdcsanet-csa"].build()
    assert isinstance(windowed, CalibratedRFDCSANet)
    windowed.start_from(published.state_dict())
    inputs, matrix = torch.rand(2, 8, WINDOW, WINDOW), torch.eye(3).expand(2, 3, 3)
    with torch.no_grad():
        expected = CALIBRATED.render(published(inputs), inputs, matrix)
        torch.testing.assert_close(
            CALIBRATED_IN_TWO.render(windowed(inputs), inputs, matrix), expected, atol=1e-4, rtol=1e-4
        )
        again = ARCHITECTURES["rfdcsanet-csa"].build()
        assert isinstance(again, CalibratedRFDCSANet)
        again.start_from(windowed.state_dict())
        assert torch.equal(again(inputs), windowed(inputs))


def test_weights_that_were_trained_inside_a_rearranging_module_are_read() -> None:
    torch.manual_seed(3)
    first, second = ARCHITECTURES["rfdcsanet-t"].build(), ARCHITECTURES["rfdcsanet-t"].build()
    assert isinstance(second, CalibratedRFDCSANet)
    second.start_from({f"net.{name}": value for name, value in first.state_dict().items()})
    x = torch.rand(1, 20, 8, 8)
    with torch.no_grad():
        assert torch.equal(first(x), second(x))


def test_input_sizes() -> None:
    assert input_size(1280, 720) == (360, 640)
    assert input_size(1332, 990, cell=4) == (248, 333)
    assert input_size(1888, 1182, cell=4) == (296, 472)
    assert input_size(1280, 720, multiple=16) == (368, 640)
    with pytest.raises(ValueError, match="found 3 and 1"):
        input_size(8, 8, cell=3)


def test_a_card_of_another_output_is_refused(model: Path, tmp_path: Path) -> None:
    card = read_card(model.with_suffix(".toml"))
    wrong = replace(card, outputs=(replace(card.outputs[0], layout="residual12"),))
    with pytest.raises(ModelError, match="output"):
        IspTask(wrong)


def test_patterns_are_drawn_in_all_tones() -> None:
    drawn = [pattern(np.random.default_rng(seed), 64) for seed in range(64)]
    assert {(p.shape, p.dtype.str) for p in drawn} == {((64, 64, 3), "|u1")}
    np.testing.assert_array_equal(drawn[5], pattern(np.random.default_rng(5), 64))
    assert min(p.min() for p in drawn) < 5
    assert max(p.max() for p in drawn) > 250
    assert np.mean([p.std() > 3 for p in drawn]) > 0.8
