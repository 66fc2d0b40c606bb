"""Files that were made to hurt: pipes, giants, bombs and damage, each one clear error before memory is asked for."""

from __future__ import annotations

import contextlib
import os
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_isp.bench.report import read_report
from edge_isp.calibration.dng import read_dng
from edge_isp.calibration.profile import AwbPoint, load_profile
from edge_isp.calibration.tuning import load_libcamera_tuning
from edge_isp.cameras.photo import load_photo
from edge_isp.cameras.replay import RawFile, ReplayCamera
from edge_isp.cameras.sidecar import read_sidecar
from edge_isp.cameras.spec import open_camera
from edge_isp.cameras.v4l2.media import read_setup
from edge_isp.errors import CameraError, DatasetError, EdgeIspError, FormatError, ModelError, ProfileError
from edge_isp.models.card import find_model, read_card
from edge_isp.training.simulation.samples import load_photo as load_training_photo
from tests.support.dng import write_dng

READERS: dict[str, Callable[[Path], object]] = {
    "sidecar.toml": read_sidecar,
    "card.toml": read_card,
    "profile.toml": load_profile,
    "setup.toml": read_setup,
    "tuning.json": load_libcamera_tuning,
    "report.json": read_report,
    "recording.raw": ReplayCamera,
    "recording.dng": read_dng,
    "photo.png": lambda path: load_photo(path, 2, 2),
    "model.tflite": lambda path: find_model(str(path), None).verify_file(),
}

CARD = (
    '[model]\nname = "x"\ntask = "isp"\nsensor = "generic"\ncolour = "calibrated"\nsha256 = "00"\nlicence = "none"\n'
    'file = "model.tflite"\n[input]\nshape = [1, 8, 8, 4]\ndtype = "int8"\nscale = 1.0\nzero_point = 0\n'
    'layout = "rggb"\n'
    '[output]\nshape = [1, 8, 8, 12]\ndtype = "int8"\nscale = 1.0\nzero_point = 0\nlayout = "planes12"\n'
)

READ = """
import sys
from pathlib import Path
from edge_isp.errors import EdgeIspError
from tests.faults.test_files import READERS
for name, read in READERS.items():
    print(name, flush=True)
    try:
        read(Path(sys.argv[1]) / name)
    except EdgeIspError as error:
        print(error)
"""


def test_a_pipe_keeps_no_reader_waiting(tmp_path: Path) -> None:
    for name in READERS:
        os.mkfifo(tmp_path / name)
    (tmp_path / "model.toml").write_text(CARD)
    try:
        done = subprocess.run(
            [sys.executable, "-c", READ, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
    except subprocess.TimeoutExpired as expired:
        raise AssertionError(f"waits for ever: {(expired.stdout or b'').splitlines()[-1]!r}") from expired
    lines = done.stdout.splitlines()
    assert lines[::2] == list(READERS)
    for name, message in zip(READERS, lines[1::2], strict=True):
        assert name in message
        assert "pipe (FIFO)" in message or "no such file" in message


UNCLOSED = """
import sys
from edge_isp.calibration.tuning import load_libcamera_tuning
from edge_isp.errors import ProfileError
try:
    load_libcamera_tuning(sys.argv[1])
except ProfileError as error:
    print(error)
"""


def test_a_text_without_an_end_keeps_no_reader_busy(tmp_path: Path) -> None:
    """Each of its quotes might be the beginning of another text: hours, where that is tried."""
    path = tmp_path / "a.json"
    path.write_text('"' + '\\"' * 1_000_000)
    done = subprocess.run(
        [sys.executable, "-c", UNCLOSED, str(path)], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    assert "not a JSON file: Unterminated string" in done.stdout


@pytest.mark.parametrize("name", [name for name in READERS if name.endswith((".toml", ".json"))])
def test_a_file_of_8_gb_is_not_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    sparse(path, 8 << 30)
    with pytest.raises(EdgeIspError, match=f"{name}: .*larger than \\d+ bytes"):
        READERS[name](path)


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def sidecar(path: Path, width: int, height: int, stride: str = "") -> None:
    path.with_suffix(".toml").write_text(
        f'[format]\nwidth = {width}\nheight = {height}\ncfa = "RGGB"\nbit_depth = 10\npacking = "u16"\n{stride}'
        '[sensor]\nname = "imx219"\n'
    )


def test_a_recording_of_8_gb_is_read_frame_by_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    sparse(path, 1 << 33)
    sidecar(path, 1024, 512)
    before = peak_bytes()
    recording = RawFile(path)
    assert recording.count == 1 << 13
    frame = next(iter(recording.frames()))
    assert not frame.data.any()
    assert peak_bytes() - before < 64 << 20


@pytest.mark.parametrize(
    ("width", "height", "stride"),
    [(32768, 32768, ""), (2, 2, "stride = 1_100_000_000\n"), (2**40, 2**20, "")],
)
def test_a_frame_of_2_gib_is_refused(width: int, height: int, stride: str, tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    sparse(path, 1 << 31)
    sidecar(path, width, height, stride)
    with pytest.raises(FormatError, match=r"a.toml: \[format\] a frame must be at most 536870912 bytes, found \d+"):
        RawFile(path)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bomb(path: Path, width: int, height: int) -> None:
    """A grey PNG of zeros."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    row = b"\0" * (width + 1)
    content = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", content)
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(16000, 15000), (12800, 10000)])
def test_a_picture_of_240_megapixels_is_refused(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    bomb(path, width, height)
    assert path.stat().st_size < 300_000
    before = peak_bytes()
    with pytest.raises(CameraError, match="a.png: cannot be read as a photograph: .*(exceeds limit|at most 64000000)"):
        load_photo(path, 2, 2)
    assert peak_bytes() - before < 16 << 20


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif", ".bmp"])
def test_damaged_pictures(suffix: str, tmp_path: Path) -> None:
    """Pillow's readers break on damage with exceptions of all kinds."""
    path = tmp_path / f"a{suffix}"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).save(path)
    good = path.read_bytes()
    for _ in range(300):
        content = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            content[int(rng.integers(min(len(content), 300)))] = int(rng.integers(256))
        path.write_bytes(content[: int(rng.integers(1, len(content) + 1))])
        for load, error in ((lambda p: load_photo(p, 2, 2), CameraError), (load_training_photo, DatasetError)):
            with contextlib.suppress(error):
                load(path)


def test_a_dng_of_a_giant_is_refused(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", np.full((16, 16), 300, np.uint16))
    content = path.read_bytes()
    for tag in (256, 257):
        entry = content.index(struct.pack("<HHI", tag, 4, 1))
        content = content[: entry + 8] + struct.pack("<I", 2**30) + content[entry + 12 :]
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"a.dng: ImageWidth and ImageLength must be at most \d+ pixels, found 1073"):
        read_dng(path)


@pytest.mark.parametrize("temperature_k", ["0.001", "1", "999", "25001", "1e9"])
@pytest.mark.parametrize("section", ["awb", "matrix", "shading"])
def test_temperatures_that_no_light_has_are_refused(section: str, temperature_k: str, tmp_path: Path) -> None:
    text = '[sensor]\nname = "x"\nbit_depth = 10\ncfa = "RGGB"\nblack_level = [0, 0, 0, 0]\nwhite_level = 1023\n'
    text += {
        "awb": f"[awb]\ncurve = [[{temperature_k}, 0.9, 0.3]]\n",
        "matrix": f"[[colour_matrix]]\ncolour_temperature_k = {temperature_k}\nmatrix = [1, 0, 0, 0, 1, 0, 0, 0, 1]\n",
        "shading": "[shading]\nrows = 2\ncolumns = 2\nluminance = [[1, 1], [1, 1]]\n[[shading.colour]]\n"
        f"colour_temperature_k = {temperature_k}\nred = [[1, 1], [1, 1]]\nblue = [[1, 1], [1, 1]]\n",
    }[section]
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=r"x.toml: .*colour temperature must be 1000 to 25000 K, found"):
        load_profile(path)


def test_the_temperature_of_gains_is_searched_in_a_table_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = load_profile("imx219")
    expected = profile.colour_temperature_of_gains(1.8, 1.4)
    monkeypatch.setattr(np, "interp", None)  # the search asks nothing of the curve again
    assert profile.colour_temperature_of_gains(1.8, 1.4) == expected
    for temperature_k in (2600.0, 4000.0, 6500.0):
        monkeypatch.undo()
        red, blue = profile.colour_gains(temperature_k)
        assert abs(1e6 / profile.colour_temperature_of_gains(red, blue) - 1e6 / temperature_k) < 1
    ends = (AwbPoint(1000, 0.9, 0.3), AwbPoint(25000, 0.3, 0.9))
    assert 1000 <= replace(profile, awb_curve=ends).colour_temperature_of_gains(1.1, 3.0) <= 25000


def test_a_model_of_8_gb_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(CARD)
    sparse(tmp_path / "model.tflite", 8 << 30)
    with pytest.raises(ModelError, match="model.tflite: larger than 536870912 bytes: found 8589934592"):
        find_model(str(tmp_path / "model.tflite"), None).verify_file()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("analogue_gain=1e40", "analogue_gain must be at least 1, at most 1000, found 1e"),
        ("seed=-1", "seed must not be negative, found -1"),
        ("seed=-1,imperfections=yes", "seed must not be negative, found -1"),
        ("seed=" + "9" * 400, "seed must be a whole number, found '9"),
        ("fps=1e-320", "fps must be positive, at least 0.001, found 1e-320"),
    ],
)
def test_settings_of_the_synthetic_camera_that_overflow(setting: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(path)
    with pytest.raises(CameraError, match=message):
        open_camera(f"synthetic:{path},width=16,height=16,{setting}")
