"""Frames in tiles: the same values as the whole frame, in bounded memory."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_isp.cameras.replay import ReplayCamera
from edge_isp.engines.base import EngineReport, TensorInfo
from edge_isp.engines.fallback import Delegation, FallbackEngine
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.tiled import TiledEngine, smallest_tile, spans
from edge_isp.errors import EngineError, ModelError, PipelineError
from edge_isp.models.card import ModelCard, read_card, shipped_models
from edge_isp.models.memory import default_tile, engine_bytes, stream_bytes
from edge_isp.pipeline import ModelOptions, Pipeline
from edge_isp.pipeline.tiling import Tiling
from edge_isp.testing import check_engine

CARDS = {name: read_card(path) for name, path in shipped_models().items()}
BOUNDED = [name for name, card in CARDS.items() if card.receptive_field_radius is not None]
UNBOUNDED = [name for name, card in CARDS.items() if card.receptive_field_radius is None and card.task == "isp"]


class NeighbourhoodEngine:
    """Each output value depends on all input values within a radius, and on whether the input ends there."""

    def __init__(self, radius: int, scale: int = 1) -> None:
        self.radius, self.scale = radius, scale
        self.sizes: list[tuple[int, ...]] = []
        self.fails_at = 0
        self.closed = False
        self.resize((1, 8, 8, 2))

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return (TensorInfo("in", self.shape, "int8", 1.0, 0),)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        _, height, width, _ = self.shape
        return (TensorInfo("out", (1, self.scale * height, self.scale * width, 3), "int8", 1.0, 0),)

    @property
    def report(self) -> EngineReport:
        return EngineReport("fake 1", "npu", 1, frames=(("npu", len(self.sizes)),))

    def resize(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def run(self, inputs: list[NDArray[np.int8]]) -> list[NDArray[np.int8]]:
        (array,) = inputs
        assert array.shape == self.shape
        assert array.flags.c_contiguous
        self.sizes.append(array.shape)
        if len(self.sizes) == self.fails_at:
            raise EngineError("the NPU is gone")
        reach = self.radius
        padded = np.pad(array[0].astype(np.int64), ((reach, reach), (reach, reach), (0, 0)), constant_values=99)
        rows, columns = array.shape[1:3]
        sums = np.zeros((rows, columns, 3), np.int64)
        for dy in range(2 * reach + 1):
            for dx in range(2 * reach + 1):
                weight = 1 + 7 * dy + 3 * dx
                near = padded[dy : dy + rows, dx : dx + columns]
                sums += weight * near[..., :1] + near[..., 1:]
        values = sums.repeat(self.scale, 0).repeat(self.scale, 1)
        return [(values % 251 - 125).astype(np.int8)[None]]

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> NeighbourhoodEngine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8)


def tiled(engine: object, radius: int, tile: tuple[int, int] | None) -> TiledEngine:
    return TiledEngine(engine, path=Path("model.tflite"), radius=radius, tile_for=lambda size: tile)  # type: ignore[arg-type]


@given(
    size=st.integers(1, 300), radius=st.integers(0, 20), extra=st.integers(0, 100), multiple=st.sampled_from([1, 2, 16])
)
def test_spans_cover_an_axis_and_see_their_neighbourhood(size: int, radius: int, extra: int, multiple: int) -> None:
    tile = smallest_tile(radius, multiple) + multiple * extra
    size *= multiple
    found = spans(size, tile, radius, multiple)
    assert [span.first for span in found] == [0, *(span.last for span in found[:-1])]
    assert found[-1].last == size
    for span in found:
        end = span.begin + min(tile, size)
        assert span.begin % multiple == 0
        assert 0 <= span.begin <= span.first < span.last <= end <= size
        assert span.begin == 0 or span.first - span.begin >= radius
        assert end == size or end - span.last >= radius


def test_a_tile_without_a_middle_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 17 for a receptive field of radius 8.*found a tile of 16"):
        spans(100, 16, 8)
    for size, tile in ((160, 40), (150, 48)):
        with pytest.raises(ValueError, match="a multiple of 16; found a tile of"):
            spans(size, tile, 8, 16)


@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(
    ("size", "tile"), [((40, 61), (16, 24)), ((16, 61), (16, 24)), ((9, 100), (50, 11)), ((7, 7), (9, 9))]
)
def test_tiles_of_any_engine_are_put_together(
    radius: int, scale: int, size: tuple[int, int], tile: tuple[int, int]
) -> None:
    shape = (1, *size, 2)
    whole = NeighbourhoodEngine(radius, scale)
    whole.resize(shape)
    engine = NeighbourhoodEngine(radius, scale)
    with tiled(engine, radius, tile) as cut:
        cut.resize(shape)
        assert cut.inputs[0].shape == shape
        assert cut.outputs == whole.outputs
        np.testing.assert_array_equal(cut.run([noise(shape)])[0], whole.run([noise(shape)])[0])
    assert engine.closed
    assert max(s[1] * s[2] for s in engine.sizes) <= tile[0] * tile[1]


def test_a_smaller_radius_than_the_engine_has_gives_other_values() -> None:
    shape = (1, 40, 61, 2)
    whole = NeighbourhoodEngine(3)
    whole.resize(shape)
    cut = tiled(NeighbourhoodEngine(3), 2, (16, 24))
    cut.resize(shape)
    assert not np.array_equal(cut.run([noise(shape)])[0], whole.run([noise(shape)])[0])


@pytest.mark.parametrize("name", BOUNDED)
def test_tiles_of_a_shipped_model_are_bit_identical(name: str) -> None:
    card = CARDS[name]
    radius = card.receptive_field_radius
    assert radius is not None
    rng = np.random.default_rng(18)
    chosen: list[tuple[int, int]] = [(0, 0)]
    whole = LiteRtEngine(card.path, threads=2)
    engine = LiteRtEngine(card.path, threads=2)
    with (
        whole,
        TiledEngine(
            engine,
            path=card.path,
            radius=radius,
            multiple=card.input_multiple,
            tile_for=lambda size: chosen[0],
        ) as cut,
    ):
        multiple = card.input_multiple
        least = smallest_tile(radius, multiple)
        for seed in range(8):
            tiles = least + multiple * rng.integers(0, 4 * radius // multiple + 1, 2)
            height, width = (int(n) for n in tiles + multiple * rng.integers(1, 4 * radius // multiple + 2, 2))
            chosen[0] = (int(tiles[0]), int(tiles[1]))
            tensor = noise((1, height, width, card.input.shape[3]), seed)
            whole.resize(tensor.shape)
            cut.resize(tensor.shape)
            assert cut.report.tile == chosen[0]
            np.testing.assert_array_equal(cut.run([tensor])[0], whole.run([tensor])[0])


@pytest.mark.parametrize("name", BOUNDED)
def test_half_the_radius_of_a_shipped_model_is_too_little(name: str) -> None:
    card = CARDS[name]
    radius = card.receptive_field_radius
    assert radius is not None
    multiple = card.input_multiple
    side = -(-6 * radius // multiple) * multiple
    tensor = noise((1, side, side, card.input.shape[3]))
    with LiteRtEngine(card.path) as whole, LiteRtEngine(card.path) as engine:
        tile = (-(-3 * radius // multiple) * multiple,) * 2
        cut = TiledEngine(engine, path=card.path, radius=radius // 2, multiple=multiple, tile_for=lambda size: tile)
        whole.resize(tensor.shape)
        cut.resize(tensor.shape)
        assert not np.array_equal(cut.run([tensor])[0], whole.run([tensor])[0])


def test_frames_are_counted_whole() -> None:
    engine = NeighbourhoodEngine(1)
    cut = tiled(engine, 1, (8, 8))
    cut.resize((1, 32, 32, 2))
    for _ in range(3):
        cut.run([noise((1, 32, 32, 2))])
    assert len(engine.sizes) == 3 * 25
    assert cut.report.frames == (("npu", 3),)
    assert cut.report.tile == (8, 8)


def test_an_error_of_a_tile_is_the_frames_and_the_next_frame_is_right() -> None:
    shape = (1, 20, 20, 2)
    engine, whole = NeighbourhoodEngine(1), NeighbourhoodEngine(1)
    whole.resize(shape)
    cut = tiled(engine, 1, (8, 8))
    cut.resize(shape)
    engine.fails_at = 4
    with pytest.raises(EngineError, match="the NPU is gone"):
        cut.run([noise(shape)])
    assert cut.report.frames == ()
    np.testing.assert_array_equal(cut.run([noise(shape)])[0], whole.run([noise(shape)])[0])


def test_an_input_of_another_shape_is_refused() -> None:
    cut = tiled(NeighbourhoodEngine(1), 1, (8, 8))
    cut.resize((1, 32, 32, 2))
    with pytest.raises(EngineError, match=r"must be int8 \(1, 32, 32, 2\), found int8 \(1, 8, 8, 2\)"):
        cut.run([noise((1, 8, 8, 2))])


def test_tensors_that_cannot_be_cut_are_refused() -> None:
    with LiteRtEngine(CARDS["raw-detector-generic"].path) as engine:
        cut = tiled(engine, 8, (64, 64))
        with pytest.raises(EngineError, match="frames cannot be cut into tiles"):
            cut.resize((1, 208, 208, 4))


@pytest.mark.parametrize("tile", [None, (40, 48)])
def test_it_is_an_engine(tile: tuple[int, int] | None) -> None:
    card = CARDS["rfdcsanet-s-generic"]
    path, radius, channels = card.path, card.receptive_field_radius, card.input.shape[3]
    assert radius is not None

    def opened() -> TiledEngine:
        engine = FallbackEngine(path, threads=1, delegation=Delegation("none"))
        cut = TiledEngine(engine, path=path, radius=radius, tile_for=lambda size: tile)
        cut.resize((1, 64, 80, channels))
        return cut

    check_engine(opened, resized=(1, 96, 50, channels))


def test_after_tensors_that_cannot_be_cut_the_engine_is_ready_for_the_old_size() -> None:
    shape = CARDS["raw-detector-generic"].input.shape
    with LiteRtEngine(CARDS["raw-detector-generic"].path) as engine:
        cut = tiled(engine, 8, (64, 64))
        before = cut.run([noise(shape)])
        with pytest.raises(EngineError, match="frames cannot be cut into tiles"):
            cut.resize((1, 320, 320, 4))
        assert cut.inputs[0].shape == shape
        np.testing.assert_array_equal(cut.run([noise(shape)])[0], before[0])


# Which frames are run in tiles


def test_frames_beyond_the_budget_are_run_in_tiles() -> None:
    card = CARDS["rfdcsanet-s-generic"]
    size = card.input_size(4056, 3040)
    needed = engine_bytes(card, *size)
    assert Tiling(card, tile=None, budget_bytes=needed).choose(size) is None
    tile = Tiling(card, tile=None, budget_bytes=needed - 1).choose(size)
    assert tile is not None
    assert tile == default_tile(card, *size)
    assert engine_bytes(card, *tile) <= engine_bytes(card, *card.input.shape[1:3])


def test_half_of_the_available_memory_is_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    card = CARDS["rfdcsanet-s-generic"]
    size = card.input_size(4056, 3040)
    needed = engine_bytes(card, *size)
    for available, is_whole in ((2 * needed, True), (2 * needed - 2, False), (None, True)):
        monkeypatch.setattr("edge_isp.board.Board.available_memory_bytes", lambda board, a=available: a)
        assert (Tiling(card, tile=None, budget_bytes=None).choose(size) is None) == is_whole


@pytest.mark.parametrize("name", UNBOUNDED)
def test_a_model_that_sees_the_whole_frame_is_run_whole_with_a_warning(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert Tiling(CARDS[name], tile=None, budget_bytes=10**6).choose((1520, 2028)) is None
    assert "needs about 4489 MB for frames of 4056x3040 pixels" in caplog.text
    assert "each of its outputs depends on the whole frame" in caplog.text


@pytest.mark.parametrize(
    ("name", "tile", "message"),
    [
        ("rfdcsanet-published-imx219", (256, 256), "each of its outputs depends on the whole frame"),
        ("raw-detector-generic", (256, 256), "its input has one size"),
        (
            "rfdcsanet-s-generic",
            (32, 640),
            "68x68 pixels, since tiles overlap by 32 pixels on each side; found 32x640",
        ),
    ],
)
def test_tiles_that_cannot_be_are_refused_before_a_frame_comes(
    name: str, tile: tuple[int, int], message: str, recording: Callable[..., Path]
) -> None:
    with pytest.raises(ModelError, match=message):
        Pipeline(ReplayCamera(recording()), ModelOptions(name, tile=tile))


@pytest.mark.parametrize("tile", [(33, 64), (64, 0), (-2, 64)])
def test_odd_tiles_are_refused(tile: tuple[int, int]) -> None:
    with pytest.raises(PipelineError, match="tile must be an even width and height"):
        ModelOptions(tile=tile)


@pytest.mark.parametrize("cfa", ["RGGB", "GBRG", "BGGR"])
@pytest.mark.parametrize("packing", ["csi2p", "u16"])
def test_pictures_are_the_same_in_tiles(cfa: str, packing: str, recording: Callable[..., Path]) -> None:
    path = recording(width=200, height=136, cfa=cfa, packing=packing)
    pictures = []
    for options in (ModelOptions(), ModelOptions(tile=(96, 112)), ModelOptions(memory_budget_bytes=1)):
        with Pipeline(ReplayCamera(path), options) as pipeline:
            pictures.append([result.picture.rgb for result in pipeline])
            assert pipeline.report is not None
            assert (pipeline.report.tile is not None) == (options.tile is not None)
    assert len(pictures[0]) == 2
    np.testing.assert_array_equal(pictures[1], pictures[0])
    np.testing.assert_array_equal(pictures[2], pictures[0])


def test_an_npu_that_is_lost_within_a_frame_costs_no_value(recording: Callable[..., Path], npu: str) -> None:
    path = recording(width=200, height=136, frames=3)
    pictures = []
    for delegation in (Delegation("none"), Delegation(f"{npu},operators=concat,fail=invoke,after=20")):
        with Pipeline(ReplayCamera(path), ModelOptions(delegation=delegation, tile=(96, 112))) as pipeline:
            pictures.append([result.picture.rgb for result in pipeline])
            report = pipeline.report
    np.testing.assert_array_equal(pictures[1], pictures[0])
    assert report is not None
    assert report.delegate == "XNNPACK"
    assert [event.kind for event in report.events if event.delegate == "npu"] == ["chosen", "dropped"]
    assert sum(count for _, count in report.frames) == 4  # and one to warm up


# Memory

# Not `getrusage`, whose peak begins with that of the parent.
_PEAK = """
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
"""

_ENGINE = """
import sys
import numpy as np
from edge_isp.engines.litert import LiteRtEngine
begun = peak()
with LiteRtEngine(sys.argv[1], threads=2) as engine:
    engine.resize((1, 600, 800, engine.inputs[0].shape[3]))
    engine.run([np.zeros(engine.inputs[0].shape, np.int8)])
    print(peak() - begun)
"""

_STREAM = """
import sys
from edge_isp import ModelOptions, Pipeline, ReplayCamera
with Pipeline(ReplayCamera(sys.argv[1]), ModelOptions("rfdcsanet-s", memory_budget_bytes=int(sys.argv[2]))) as pipeline:
    for result in pipeline:
        pass
print(peak())
"""


def measured(program: str, *arguments: object) -> int:
    command = [sys.executable, "-c", _PEAK + program, *map(str, arguments)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.task == "isp"])
def test_the_estimate_of_an_engine_is_an_upper_one_and_near(name: str) -> None:
    estimate = engine_bytes(CARDS[name], 600, 800)
    found = measured(_ENGINE, CARDS[name].path)
    assert 0.8 * estimate < found < estimate


def stream_peak(recording: Callable[..., Path], width: int, height: int, budget: int) -> int:
    path = recording(width=4, height=4)
    path.write_bytes(b"")
    with path.open("wb") as file:
        file.truncate(2 * height * (width // 4 * 5))
    sidecar = path.with_suffix(".toml")
    sidecar.write_text(
        sidecar.read_text().replace("width = 4", f"width = {width}").replace("height = 4", f"height = {height}")
    )
    return measured(_STREAM, path, budget)


def test_twelve_megapixels_stay_within_their_estimate(recording: Callable[..., Path]) -> None:
    card: ModelCard = CARDS["rfdcsanet-s-generic"]
    size = card.input_size(4056, 3040)
    estimate = stream_bytes(card, *size, default_tile(card, *size))
    assert estimate < 700e6  # 2.8 GB whole
    assert 0.7 * estimate < stream_peak(recording, 4056, 3040, 10**6) < estimate


@pytest.mark.slow
def test_sixty_four_megapixels_take_less_than_1500_mb(recording: Callable[..., Path]) -> None:
    assert stream_peak(recording, 9248, 6944, 10**6) < 1500e6
