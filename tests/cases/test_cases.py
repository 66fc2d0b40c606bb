"""Small inputs that once failed, each with what must come of it; `data/README.md` says what they are."""

from __future__ import annotations

import logging
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from typer.testing import CliRunner

import edge_isp
from edge_isp.calibration.dng import load_dng_profile
from edge_isp.calibration.tuning import load_libcamera_tuning
from edge_isp.cameras.photo import load_photo
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cli.main import app
from edge_isp.errors import FormatError
from edge_isp.frame import RawFrame
from edge_isp.pipeline.options import ModelOptions
from edge_isp.pipeline.pipeline import Pipeline
from edge_isp.results import Picture
from edge_isp.tasks.classical import ClassicalIsp
from edge_isp.training.detector.labels import load_labels
from edge_isp.training.simulation.samples import find_photos
from edge_isp.training.simulation.samples import load_photo as training_photo

CASES = Path(__file__).parent / "data"

# What linear light of .6, .05 and .5 is in sRGB: the scene's red and green patch, rendered by the file's own matrix.
RED, GREEN, GREY = (203, 63, 63), (63, 188, 63), (118, 118, 118)

F1 = CASES / "f1_matrix_unknown_model.dng"


def frames_of(path: Path) -> list[RawFrame]:
    with ReplayCamera(path) as camera:
        return [frame for frame in iter(camera.read, None) if frame]


def picture_of(path: Path, model: str = "rfdcsanet-s") -> NDArray[np.uint8]:
    with Pipeline(ReplayCamera(path), ModelOptions(model, tone="srgb")) as pipeline:
        (result,) = list(pipeline)
    assert isinstance(result.result, Picture)
    return result.result.rgb


def classical_picture_of(path: Path) -> NDArray[np.uint8]:
    (frame,) = frames_of(path)
    with frame:
        return ClassicalIsp(tone="srgb").develop(frame).rgb


def patch(picture: NDArray[np.uint8], x: int, y: int) -> tuple[float, ...]:
    return tuple(picture[y : y + 10, x : x + 10].reshape(-1, 3).mean(axis=0).tolist())


def check_scene(picture: NDArray[np.uint8]) -> None:
    assert picture.shape == (120, 160, 3)
    assert patch(picture, 8, 8) == pytest.approx(RED, abs=3)
    assert patch(picture, 135, 8) == pytest.approx(GREEN, abs=3)
    assert patch(picture, 60, 40) == pytest.approx(GREY, abs=3)


def copy_of(name: str, folder: Path) -> Path:
    """A copy of a `.raw` with its sidecar."""
    for suffix in (".raw", ".toml"):
        shutil.copy((CASES / name).with_suffix(suffix), folder)
    return folder / name


def test_colours_are_by_the_file_s_own_matrix(caplog: pytest.LogCaptureFixture) -> None:
    check_scene(picture_of(F1))
    check_scene(classical_picture_of(F1))
    assert "colours will be off" not in caplog.text
    assert "the file's own matrix" in caplog.text


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_pictures_are_turned_upright(orientation: int) -> None:
    path = CASES / f"f2_orientation_{orientation}.dng"
    for develop in (picture_of, classical_picture_of):
        np.testing.assert_array_equal(develop(path), turned_by_pillow(develop(F1), orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_through_every_door(tmp_path: Path, orientation: int) -> None:
    """`run`, `develop` and a profile that was imported from the same file."""
    content = bytearray(F1.read_bytes())
    entry = content.index(struct.pack("<HHI", 0x0112, 3, 1)) + 8
    content[entry : entry + 2] = struct.pack("<H", orientation)
    path = tmp_path / "turned.dng"
    path.write_bytes(content)
    expected = turned_by_pillow(picture_of(F1), orientation)
    np.testing.assert_array_equal(picture_of(path), expected)
    np.testing.assert_array_equal(edge_isp.develop(path, tone="srgb"), expected)
    profile = load_dng_profile(path)
    imported = edge_isp.develop(path, tone="srgb", profile=profile)
    assert imported.shape == expected.shape
    assert np.abs(imported.astype(int) - expected).mean() < 1
    done = CliRunner().invoke(app, ["run", "--camera", str(path), "--save", str(tmp_path), "--tone", "srgb"])
    assert done.exit_code == 0, done.output
    (saved,) = tmp_path.glob("*.png")
    np.testing.assert_array_equal(np.asarray(Image.open(saved)), expected)


def turned_by_pillow(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    image = Image.fromarray(rgb)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def test_black_above_white_is_one_error_for_replay_and_import() -> None:
    path = CASES / "f3_black_above_white.dng"
    for read in (ReplayCamera, load_dng_profile):
        with pytest.raises(FormatError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: BlackLevel must be below WhiteLevel, found 5000 and 4095"


def test_the_plain_recording_goes_on_working() -> None:
    (frame,) = frames_of(CASES / "ok_base.raw")
    assert (frame.format.width, frame.format.height, frame.colour_gains) == (160, 120, (2.0, 1.538))


def test_codes_beyond_the_bit_depth_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = copy_of("f4_left_aligned_called_rg10.raw", tmp_path)
    with caplog.at_level(logging.WARNING):
        frames_of(path)
        frames_of(CASES / "ok_base.raw")
    (message,) = [record.getMessage() for record in caplog.records]
    assert "f4_left_aligned_called_rg10.raw: codes exceed the bit depth" in message
    assert "10 bits hold 1023 at most" in message
    assert 'write packing = "u16-left" into f4_left_aligned_called_rg10.toml' in message
    sidecar = path.with_suffix(".toml")
    sidecar.write_text(sidecar.read_text().replace('"u16"', '"u16-left"'))
    caplog.clear()
    right, base = classical_picture_of(path), classical_picture_of(CASES / "ok_base.raw")
    assert not caplog.records
    assert np.abs(right.astype(int) - base).mean() < 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (key, value)
        for key in ("colour_gains",)
        for value in ("[inf, 1.5]", "[1e9, 1.5]", "[2.0, 1e-9]", "[nan, 1.5]", "[0, 1.5]", "[2.0, -1]", "[2.0]", "2.0")
    ]
    + [
        (key, v)
        for key in ("analogue_gain", "digital_gain", "colour_temperature_k", "exposure_ns")
        for v in ("inf", "nan", "0", "-1", "true", "10_000_000_000_000_000")
    ],
)
def test_impossible_conditions_are_one_error_that_names_the_key(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(FormatError, match=r"f5_gain_inf.toml: frame.colour_gains must be .*found \[inf, 1.5\]"):
        ReplayCamera(CASES / "f5_gain_inf.raw")
    path = copy_of("ok_base.raw", tmp_path)
    path.with_suffix(".toml").write_text(
        (CASES / "ok_base.toml").read_text().replace("colour_gains=[2.0,1.538]", f"{key}={value}")
    )
    with pytest.raises(FormatError, match=f"ok_base.toml: frame.{key} must be "):
        ReplayCamera(path)


def test_a_header_before_the_frame(tmp_path: Path) -> None:
    path = copy_of("f6_header_before_frame.raw", tmp_path)
    with pytest.raises(
        FormatError,
        match=r"found 42496 bytes: 1 frames and 4096 bytes.*write offset = 4096 into f6_header_before_frame.toml",
    ):
        ReplayCamera(path)
    sidecar = path.with_suffix(".toml")
    sidecar.write_text(sidecar.read_text().replace("[format]", "[format]\noffset = 4096"))
    (frame,), (base,) = frames_of(path), frames_of(CASES / "ok_base.raw")
    np.testing.assert_array_equal(frame.data, base.data)


@pytest.mark.parametrize("header", [0, 4096])
@pytest.mark.parametrize("padding", [0, 512, 50_000])
@pytest.mark.parametrize("last_is_padded", [True, False])
def test_padding_after_each_frame(tmp_path: Path, header: int, padding: int, last_is_padded: bool) -> None:
    content = (CASES / "ok_base.raw").read_bytes()
    path = tmp_path / "frames.raw"
    rest = b"\xff" * padding
    path.write_bytes(b"\xff" * header + rest.join([content] * 3) + (rest if last_is_padded else b""))
    layout = f"[format]\noffset = {header}\nframe_bytes = {len(content) + padding}"
    path.with_suffix(".toml").write_text((CASES / "ok_base.toml").read_text().replace("[format]", layout))
    frames = frames_of(path)
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    for frame in frames:
        assert frame.data.tobytes() == content


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("offset = -1", "format.offset must be a whole number of at least 0, found -1"),
        ("offset = 1.5", "format.offset must be a whole number, found 1.5"),
        ("frame_bytes = 38399", "format.frame_bytes must be at least 38400, the bytes of 120 rows, found 38399"),
        ("offset = 100000", "expected 100000 bytes and then a whole number of frames"),
        ("ofset = 1", "unknown key 'ofset'; did you mean 'offset'"),
    ],
)
def test_impossible_places_of_frames(tmp_path: Path, line: str, message: str) -> None:
    path = copy_of("ok_base.raw", tmp_path)
    sidecar = path.with_suffix(".toml")
    sidecar.write_text(sidecar.read_text().replace("[format]", f"[format]\n{line}"))
    with pytest.raises(FormatError, match=message):
        ReplayCamera(path)


def test_stray_files_in_a_folder_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy_of("ok_base.raw", tmp_path)
    (tmp_path / "._ok_base.dng").write_bytes(b"\0\5\x16\7")
    (tmp_path / ".hidden.raw").touch()
    (tmp_path / "folder.raw").mkdir()
    assert len(frames_of(tmp_path)) == 1
    messages = sorted(record.getMessage() for record in caplog.records)
    assert len(messages) == 3
    assert "._ok_base.dng: passed over: a hidden file" in messages[0]
    assert "folder.raw: passed over: not a file" in messages[2]


def test_a_grey_photograph_of_16_bits_is_scaled() -> None:
    photo = np.asarray(load_photo(CASES / "f9_grey16.png", 160, 120)).astype(float)
    assert photo.shape == (120, 160, 3)
    assert photo.mean() == pytest.approx(32081.8 / 257, abs=0.1)
    assert photo.max() == pytest.approx(62470 / 257, abs=0.5)


def test_a_photograph_is_turned_upright() -> None:
    photo = load_photo(CASES / "f9_exif_orientation_6.jpg", 120, 160)
    assert photo.size == (120, 160)


def test_photographs_of_training_and_evaluation_are_read_like_scenes() -> None:
    grey = training_photo(CASES / "f9_grey16.png")
    assert grey.shape == (120, 160, 3)
    assert grey.mean() == pytest.approx(32081.8 / 257, abs=0.1)
    turned = training_photo(CASES / "f9_exif_orientation_6.jpg")
    np.testing.assert_array_equal(turned, np.asarray(load_photo(CASES / "f9_exif_orientation_6.jpg", 2, 2)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_of_every_orientation(tmp_path: Path, orientation: int) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    expected = turned_by_pillow(stored, orientation)
    np.testing.assert_array_equal(np.asarray(load_photo(tmp_path / "a.png", 2, 2)), expected)
    np.testing.assert_array_equal(training_photo(tmp_path / "a.png"), expected)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 1 1")
    boxes = load_labels([tmp_path / "a.png"], tmp_path)["a"]
    assert boxes.xyxy.tolist() == [[0, 0, expected.shape[1], expected.shape[0]]]


def test_stray_files_beside_photographs_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy(CASES / "f9_grey16.png", tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "folder.jpg").mkdir()
    assert find_photos(tmp_path) == [tmp_path / "a.png"]
    assert sorted(record.getMessage().partition(": ")[2] for record in caplog.records) == [
        "passed over: a hidden file",
        "passed over: not a file",
    ]


def test_a_tuning_file_with_trailing_commas() -> None:
    profile = load_libcamera_tuning(CASES / "f15_trailing_comma.json")
    assert profile.black_level == (64, 64, 64, 64)
