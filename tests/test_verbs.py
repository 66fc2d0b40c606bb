"""`develop` and `detect` give what a pipeline gives, and say what is wrong with what they get."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import edge_isp
from edge_isp import EngineError, FormatError, ModelError, Picture, ProfileError, ReplayCamera, SinkError
from edge_isp.engines.fallback import FallbackEngine
from edge_isp.kernels.unpack import unpack
from edge_isp.pipeline import ModelOptions, Pipeline
from edge_isp.verbs import _Engines
from tests.support.recordings import NIKON_FILE, OPENISP_FILE, REAL_FRAMES, copy_real_frame


def of_pipeline(path: Path, model: str) -> edge_isp.FrameResult:
    with Pipeline(ReplayCamera(path), ModelOptions(model)) as pipeline:
        found = pipeline.read()
    assert found
    return found


@pytest.mark.parametrize("name", ["demo", *REAL_FRAMES])
def test_files_give_what_a_pipeline_gives(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = (
        edge_isp.demo_recording()
        if name == "demo"
        else copy_real_frame(request.getfixturevalue("data"), name, tmp_path)
    )
    np.testing.assert_array_equal(edge_isp.develop(path), of_pipeline(path, "rfdcsanet-s").picture.rgb)
    found, expected = edge_isp.detect(path), of_pipeline(path, "raw-detector").detections
    np.testing.assert_array_equal(found.xyxy, expected.xyxy)
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    np.testing.assert_array_equal(found.class_id, expected.class_id)


ARRAYS: dict[str, dict[str, Any]] = {
    NIKON_FILE: {"bit_depth": 14, "black_level": 600, "white_level": 15520, "colour_gains": (1.949, 1.344)},
    OPENISP_FILE: {"bit_depth": 10, "black_level": (0, 0, 0, 0), "white_level": 1023},
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_give_what_a_pipeline_gives(name: str, data: Path, tmp_path: Path) -> None:
    path = copy_real_frame(data, name, tmp_path)
    with ReplayCamera(path) as camera:
        frame = camera.read()
    assert frame
    codes = unpack(frame.data, frame.format.layout)
    for given in (codes, np.asfortranarray(codes), np.pad(codes, 4)[4:-4, 4:-4]):
        found = edge_isp.develop(given, cfa="RGGB", **ARRAYS[name])
        np.testing.assert_array_equal(found, of_pipeline(path, "rfdcsanet-s").picture.rgb)
    detected = edge_isp.detect(codes, cfa="RGGB", **ARRAYS[name])
    np.testing.assert_array_equal(detected.xyxy, of_pipeline(path, "raw-detector").detections.xyxy)


def mosaic(height: int = 32, width: int = 48, dtype: type = np.uint16) -> NDArray[Any]:
    return np.full((height, width), 100, dtype)


KNOWN: dict[str, Any] = {"cfa": "RGGB", "bit_depth": 10, "sensor": "imx219"}


def test_the_sensors_levels_are_used_and_arrays_of_bytes_work() -> None:
    grey = edge_isp.develop(mosaic(), colour_gains=(1.0, 1.0), **KNOWN)
    assert grey.shape == (32, 48, 3)
    assert grey.dtype == np.uint8
    black = edge_isp.develop(np.full((32, 48), 64, np.uint16), **KNOWN)
    assert black.max() <= 2 < grey.min()
    given = edge_isp.develop(mosaic(dtype=np.uint8), cfa="BGGR", bit_depth=8, black_level=16)
    assert given.shape == (32, 48, 3)


@pytest.mark.parametrize(
    ("raw", "changes", "error", "message"),
    [
        (mosaic(), {"cfa": None}, FormatError, "does not say its cfa: give cfa="),
        (mosaic(), {"bit_depth": None}, FormatError, "does not say its bit_depth: give bit_depth="),
        (mosaic(), {"sensor": None}, FormatError, "does not say its black level"),
        (mosaic(31), {}, FormatError, "must be even"),
        (mosaic(32, 47), {}, FormatError, "must be even"),
        (mosaic()[0], {}, FormatError, r"must be an array \(height, width\), found the shape \(48,\)"),
        (np.zeros((4, 4, 3), np.uint16), {}, FormatError, "no colour channels"),
        (mosaic().astype(np.float32), {}, FormatError, "uint8 or uint16, found float32"),
        (mosaic().astype(np.int32), {}, FormatError, "uint8 or uint16, found int32"),
        (mosaic(0), {}, FormatError, "must not be empty"),
        (mosaic() * 20, {}, FormatError, r"below 1024, found 2000: bit_depth= is too small, .* raw >> 6"),
        (mosaic(dtype=np.uint8), {}, FormatError, "give a uint16 array"),
        (mosaic(), {"cfa": "RGBG"}, FormatError, "cfa must be one of RGGB"),
        (mosaic(), {"bit_depth": 7}, FormatError, "from 8 to 16, found 7"),
        (mosaic(), {"bit_depth": True}, FormatError, "from 8 to 16, found True"),
        (mosaic(), {"black_level": 1023}, FormatError, "black below white"),
        (mosaic(), {"black_level": -1}, FormatError, "black below white"),
        (mosaic(), {"black_level": float("nan")}, FormatError, "black_level must be a number"),
        (mosaic(), {"black_level": (1, 2)}, FormatError, "black_level must be a number, or four"),
        (mosaic(), {"white_level": float("inf")}, FormatError, "black below white"),
        (mosaic(), {"white_level": 1024}, FormatError, "black below white"),
        (mosaic(), {"sensor": "imx2199"}, ProfileError, "no sensor profile 'imx2199'.*did you mean 'imx219'"),
        (mosaic(), {"model": "rfdcsanet-z"}, ModelError, "no model 'rfdcsanet-z'"),
        (mosaic(), {"model": "raw-detector"}, ModelError, r"use edge_isp.detect"),
        *(
            (mosaic(), {"colour_gains": (gain, 1.5)}, FormatError, "two positive numbers")
            for gain in (0.0, -1.0, float("nan"), float("inf"), "x")
        ),
        (mosaic(), {"colour_temperature_k": float("nan")}, FormatError, "colour_temperature_k must be a positive"),
        (mosaic(), {"analogue_gain": 0}, FormatError, "analogue_gain must be a positive"),
        (mosaic(), {"analogue_gain": 1e12}, FormatError, "analogue_gain must be from 0.001 to 100000, found 1000000"),
        (mosaic(), {"colour_gains": (1e9, 1.0)}, FormatError, "colour_gains must be from 0.001 to 1000"),
        (
            mosaic(),
            {"colour_temperature_k": 5},
            FormatError,
            "colour_temperature_k must be from 1000 to 25000, found 5",
        ),
        (mosaic(), {"colour_matrix": [float("nan")] * 9}, FormatError, "colour_matrix must be from -1000 to 1000"),
        (mosaic(), {"colour_matrix": [1e9] * 9}, FormatError, "colour_matrix must be from -1000 to 1000"),
        ([[1, 2], [3, 4]], {}, FormatError, "must be a NumPy array .* found list"),
    ],
)
def test_wrong_input_is_one_clear_error(
    raw: Any, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        edge_isp.develop(raw, **(KNOWN | changes))


@dataclass
class Engines:
    """Those that `develop` opened and closed."""

    opened: list[FallbackEngine] = field(default_factory=list)
    closed: list[FallbackEngine] = field(default_factory=list)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    """No engine is open at first, and two are kept."""
    found = Engines()
    make, close = FallbackEngine.__init__, FallbackEngine.close

    def opening(self: FallbackEngine, *arguments: Any, **settings: Any) -> None:
        make(self, *arguments, **settings)
        found.opened.append(self)

    def closing(self: FallbackEngine) -> None:
        found.closed.append(self)
        close(self)

    monkeypatch.setattr("edge_isp.verbs._engines", _Engines(kept=2))
    monkeypatch.setattr(FallbackEngine, "__init__", opening)
    monkeypatch.setattr(FallbackEngine, "close", closing)
    return found


def test_engines_are_kept_by_size_and_the_oldest_is_closed(engines: Engines) -> None:
    for height in (32, 32, 64, 32, 96, 32):  # 64 is the one that was not used for longest when 96 comes
        edge_isp.develop(mosaic(height), **KNOWN)
    assert (len(engines.opened), engines.closed) == (3, [engines.opened[1]])


def test_an_engine_that_cannot_be_made_ready_is_closed(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: FallbackEngine, shape: tuple[int, ...]) -> None:
        raise EngineError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(FallbackEngine, "resize", refuse)
        with pytest.raises(EngineError, match="no memory"):
            edge_isp.develop(mosaic(), **KNOWN)
    assert engines.opened
    assert engines.closed == engines.opened
    assert edge_isp.develop(mosaic(), **KNOWN).shape == (32, 48, 3)  # the failure is not kept


def test_threads_may_share_the_engines() -> None:
    raws = [np.full((32, 48), 100 + 50 * number, np.uint16) for number in range(4)]
    expected = [edge_isp.develop(raw, **KNOWN) for raw in raws]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda raw: edge_isp.develop(raw, **KNOWN), raws * 8))
    for number, picture in enumerate(found):
        np.testing.assert_array_equal(picture, expected[number % len(raws)])


def test_what_a_file_states_may_not_be_given_again() -> None:
    for name, value in (("cfa", "BGGR"), ("bit_depth", 10), ("sensor", "imx219"), ("black_level", 64)):
        with pytest.raises(FormatError, match=f"{name} is given twice.*leave out {name}="):
            edge_isp.develop(edge_isp.demo_recording(), **{name: value})  # type: ignore[arg-type]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(edge_isp.EdgeIspError, match=r"none\.raw"):
        edge_isp.develop(tmp_path / "none.raw")
    with pytest.raises(FormatError, match="is a folder"):
        edge_isp.develop(tmp_path)


def picture() -> Picture:
    rgb = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    return Picture(rgb, "scene.raw", 3, 0)


def test_a_picture_shows_itself() -> None:
    made = picture()
    shown = made._repr_png_()
    with Image.open(io.BytesIO(shown)) as image:
        np.testing.assert_array_equal(np.asarray(image), made.rgb)
    assert made.bgr.flags.c_contiguous
    np.testing.assert_array_equal(made.bgr[..., ::-1], made.rgb)


def test_a_picture_saves_itself_and_overwrites_nothing(tmp_path: Path) -> None:
    made = picture()
    made.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), made.rgb)
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(SinkError, match=r"a\.png.*is there already"):
        made.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    made.save(tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.format == "JPEG"
    with pytest.raises(SinkError, match=r"b\.gif.*\.png"):
        made.save(tmp_path / "b.gif")
    with pytest.raises(SinkError):
        made.save(tmp_path / "nowhere" / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.jpg"]
