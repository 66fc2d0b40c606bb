"""From a camera to pictures, and the command line around it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import edge_isp
from edge_isp.calibration.light import srgb_decode
from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.spec import demo_recording, open_camera
from edge_isp.cli.main import app
from edge_isp.errors import CameraError, EdgeIspError, ModelError, PluginError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.layout import CELL_PLANES
from edge_isp.kernels.pack import pack
from edge_isp.pipeline import ModelOptions, Pipeline

Recording = Callable[..., Path]


def scene() -> np.ndarray:
    """A picture with an edge, a slope and colours, different in every corner: uint8 (96, 128, 3)."""
    y, x = np.mgrid[0:96, 0:128].astype(np.float64)
    picture = np.stack([40 + 1.2 * x, 180 - y, 60 + 0.8 * y], 2)
    picture[20:50, 30:70] = (200, 60, 50)
    picture[60:80, 80:120] = (40, 70, 190)
    picture[60:88, 12:44] = 128
    return picture.astype(np.uint8)


def shot(folder: Path, cfa: str) -> Path:
    """A recording of `scene` through the sensor model with another CFA order."""
    model = SensorModel(load_profile("imx219"))
    linear = srgb_decode(scene().astype(np.float32) / np.float32(255)).astype(np.float32)
    codes = model.codes(linear, np.random.default_rng(0), colour_temperature_k=5700, cfa=cfa)
    layout = RawFormat(128, 96, Cfa(cfa), 10, Packing.CSI2P)
    path = folder / f"{cfa}.raw"
    path.write_bytes(pack(codes, packing=layout.packing, bit_depth=10).tobytes())
    red, blue = model.profile.colour_gains(5700)
    path.with_suffix(".toml").write_text(
        f'[format]\nwidth = 128\nheight = 96\ncfa = "{cfa}"\nbit_depth = 10\npacking = "csi2p"\n'
        f'[sensor]\nname = "imx219"\n[frame]\ncolour_gains = [{red}, {blue}]\n'
    )
    return path


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_pictures_have_the_colours_and_the_place_of_the_scene(tmp_path: Path, cfa: str) -> None:
    with Pipeline(ReplayCamera(shot(tmp_path, cfa)), ModelOptions(tone="srgb")) as pipeline:
        (done,) = pipeline
    picture, expected = done.picture.rgb.astype(float), scene().astype(float)
    assert picture.shape == expected.shape

    def psnr(a: np.ndarray, b: np.ndarray) -> float:
        return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))

    assert psnr(picture, expected) > 26
    np.testing.assert_allclose(picture[64:84, 16:40].mean((0, 1)), 128, atol=4)  # no tint
    # One network serves all colour temperatures and cannot see which: saturated colours are a little off.
    np.testing.assert_allclose(picture.mean((0, 1)), expected.mean((0, 1)), atol=8)
    for border in (picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]):
        assert border.mean() > 40  # no black borders
    # No shift: the best place is where it is.
    inner = expected[4:-4, 4:-4]
    shifts = {
        (dy, dx): psnr(picture[4 + dy : 92 + dy, 4 + dx : 124 + dx], inner) for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    }
    assert max(shifts, key=shifts.__getitem__) == (0, 0)
    # No checkerboard: the four places of the cell agree in a flat patch.
    patch = picture[24:46, 36:64]
    means = [patch[y::2, x::2].mean((0, 1)) for y in (0, 1) for x in (0, 1)]
    assert np.ptp(means, axis=0).max() < 3


def test_results_carry_source_sequence_and_stage_times(recording: Recording) -> None:
    path = recording(frames=3)
    with Pipeline(ReplayCamera(path), ModelOptions(threads=1)) as pipeline:
        before, done, report = pipeline.report, list(pipeline), pipeline.report
    assert before is None
    assert report is not None
    assert (report.delegate, report.threads) == ("XNNPACK", 1)
    assert [d.picture.sequence for d in done] == [0, 1, 2]
    assert all(d.picture.source == str(path) for d in done)
    assert all(list(d.stages_ns) == ["read", "meter", "encode", "infer", "decode"] for d in done)
    assert all(0 < value < 10_000_000_000 for d in done for value in d.stages_ns.values())
    assert all(d.model.startswith("rfdcsanet-s-") for d in done)


def test_a_folder_of_different_sizes_and_layouts(recording: Recording, caplog: pytest.LogCaptureFixture) -> None:
    first = recording("a", frames=1)
    recording("b", frames=2, width=32, height=20, bit_depth=12)
    recording(
        "c", frames=1, packing="u16", cfa="BGGR", sensor="black_level = [0, 0, 0, 0]\nwhite_level = 1023", frame=""
    )
    with Pipeline(ReplayCamera(first.parent)) as pipeline:
        shapes = [done.picture.rgb.shape for done in pipeline]
    assert shapes == [(48, 64, 3), (20, 32, 3), (20, 32, 3), (48, 64, 3)]


def test_a_sensor_of_its_own_colours_is_reported(recording: Recording, caplog: pytest.LogCaptureFixture) -> None:
    """Generic weights are made for every sensor; a model that was trained on another one has its colours."""
    path = recording(frames=2, sensor='name = "imx999"\nblack_level = [0, 0, 0, 0]\nwhite_level = 1023')
    with Pipeline(ReplayCamera(path)) as pipeline:
        assert len(list(pipeline)) == 2
    (profile,) = [r.getMessage() for r in caplog.records if "colours" in r.getMessage()]
    assert "there is no profile of sensor 'imx999': colours will be off; noise is estimated" in profile
    caplog.clear()
    with Pipeline(ReplayCamera(path), "rfdcsanet-published") as pipeline:
        assert len(list(pipeline)) == 2
    (message,) = [r.getMessage() for r in caplog.records if "colours" in r.getMessage()]
    assert "rfdcsanet-published-imx219 was trained on sensor imx219, not on 'imx999': colours will be off" in message


def test_wrong_names_are_errors_before_the_first_frame(recording: Recording) -> None:
    with pytest.raises(ModelError, match="no model 'nope'"):
        Pipeline(ReplayCamera(recording()), model="nope")
    with pytest.raises(PluginError, match="no 'nope' among engines"):
        Pipeline(ReplayCamera(recording()), ModelOptions(engine="nope"))


def test_every_frame_is_released_even_if_the_consumer_fails(recording: Recording) -> None:
    camera = ReplayCamera(recording(frames=3))
    frames: list[RawFrame] = []
    read = camera.read

    def remember(timeout_s: float | None = None) -> RawFrame | None:
        frame = read()
        frames.extend([frame] if frame else [])
        return frame

    camera.read = remember  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="consumer"), Pipeline(camera) as pipeline:
        for _ in pipeline:
            raise RuntimeError("consumer")
    assert frames
    assert all(frame._released == [True] for frame in frames)


def test_camera_specifications(recording: Recording, tmp_path: Path) -> None:
    path = recording()
    assert isinstance(open_camera(str(path)), ReplayCamera)
    assert isinstance(open_camera(f"replay:{path}"), ReplayCamera)
    Image.fromarray(scene()).save(tmp_path / "photo,1.png")
    camera = open_camera(f"synthetic:{tmp_path}/photo,1.png,width=64,height=48,fps=none,frames=2")
    assert isinstance(camera, edge_isp.SyntheticCamera)
    assert [frame is not None for frame in (camera.read(), camera.read(), camera.read())] == [True, True, False]
    for spec, message in (
        ("none.raw", "camera 'none.raw': no such file or folder"),
        ("synthetic", "photo is missing; expected synthetic:PHOTO"),
        (f"synthetic:{tmp_path}/photo,1.png,speed=3", "unknown speed.*; 'synthetic' knows: .*fps"),
        (f"replay:{path},loop=1", "unknown loop; 'replay' knows: no settings"),
    ):
        with pytest.raises(CameraError, match=message):
            open_camera(spec)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["run", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, (SystemExit, EdgeIspError)):
        raise result.exception
    return result.exit_code, result.stdout


def test_run_saves_pictures_of_the_shipped_recording(tmp_path: Path) -> None:
    code, output = run("--save", tmp_path / "out")
    assert code == 0
    assert "frames/s" in output
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert [re.sub(r"_\d{8}T\d{6}Z_", "_", name) for name in files] == [f"spices_{n:06d}.png" for n in range(3)]
    with Image.open(tmp_path / "out" / files[0]) as image:
        assert image.size == (832, 576)
    assert demo_recording().stat().st_size <= 2_000_000


def test_run_json_is_one_object_a_frame(recording: Recording, tmp_path: Path) -> None:
    path = recording(frames=3)
    code, output = run("--camera", path, "--json", "--frames", 2, "--save", tmp_path / "out")
    assert code == 0
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["sequence"] for line in lines] == [0, 1]
    for line in lines:
        assert line["source"] == str(path)
        assert line["timestamp_ns"] > 0
        assert list(line["stages_ns"]) == ["read", "meter", "encode", "infer", "decode", "save"]
        assert re.fullmatch(rf"scene_\d{{8}}T\d{{6}}Z_{line['sequence']:06d}.png", Path(line["saved"]).name)
        assert Path(line["saved"]).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--camera", "none.raw"], "camera 'none.raw': no such file or folder"),
        (["--model", "nope"], "no model 'nope'; there are: raw-detector-generic"),
        (["--save", "/proc/none/here"], "/proc/none/here: cannot write pictures there"),
    ],
)
def test_errors_are_one_line_and_exit_status_1(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-c", "from edge_isp.cli.main import main; main()", "run", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("INFO:")]
    assert line.startswith(f"edge-isp: error: {message}")


def test_nothing_is_written_where_the_input_is_bad(recording: Recording, tmp_path: Path) -> None:
    path = recording(frames=2)
    path.write_bytes(path.read_bytes()[:-1])
    code, _ = run("--camera", path, "--save", tmp_path / "out")
    assert code == 1
    assert not list((tmp_path / "out").glob("*"))


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.stdout.strip() == edge_isp.__version__
