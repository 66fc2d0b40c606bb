"""DNG files in replay: every form of every tag, by the file's own figures."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import edge_isp
from edge_isp.calibration.dng import load_dng_profile, read_dng
from edge_isp.calibration.dng_colour import white_xyz
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.errors import FormatError, ProfileError
from edge_isp.frame import RawFrame
from edge_isp.kernels.unpack import unpack
from edge_isp.sensor_window import SensorWindow
from tests.support.dng import (
    ASCII,
    BYTE,
    DOUBLE,
    LONG,
    MATRIX,
    RATIONAL,
    SHORT,
    SIGNED_RATIONAL,
    WARM_MATRIX,
    Tag,
    write_dng,
)

rawpy = pytest.importorskip("rawpy", reason="rawpy is not installed (extra dng)")
tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed (extra dng)")

# A place's code tells its row and column.
CODES = (np.arange(48)[:, None] * 70 + np.arange(64) + 300).astype(np.uint16)


def frame_of(path: Path) -> RawFrame:
    with ReplayCamera(path) as camera:
        frame = camera.read()
    assert frame is not None
    return frame


def codes_of(frame: RawFrame) -> NDArray[np.uint16]:
    return unpack(frame.data, frame.format.layout)


def read(folder: Path, **tags: Tag | None) -> RawFrame:
    return frame_of(write_dng(folder / "a.dng", CODES, tags))


def test_a_plain_file(tmp_path: Path) -> None:
    frame = read(tmp_path)
    np.testing.assert_array_equal(codes_of(frame), CODES)
    assert (frame.format.cfa, frame.format.bit_depth) == ("RGGB", 12)
    assert (frame.black_level, frame.white_level) == ((256,) * 4, 4095)
    assert frame.colour_gains == pytest.approx((2, 1 / 0.65))
    assert (frame.orientation, frame.analogue_gain, frame.noise_profile, frame.exposure_ns) == (1, None, None, None)
    assert (frame.baseline_exposure_ev, frame.sensor) == (None, None)


@pytest.mark.parametrize("model", ["Canon EOS 5D Mark II", "NIKON D800", "ILCE-7M3"])
def test_the_file_s_matrix_wins_over_libraw_s_table(tmp_path: Path, model: str) -> None:
    maker = {"C": "Canon", "N": "NIKON CORPORATION", "I": "Sony"}[model[0]]
    known = {"Model": (ASCII, model), "UniqueCameraModel": (ASCII, f"{maker} {model}")}
    frame = read(tmp_path, **known)
    assert frame.colour_matrix == read(tmp_path).colour_matrix
    assert frame.colour_matrix is not None
    # Colours of the light that the matrix is for, through the matrix and back.
    xyz_of_srgb = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    camera_of_srgb = np.array(MATRIX).reshape(3, 3) @ xyz_of_srgb
    balanced = camera_of_srgb / camera_of_srgb.sum(axis=1)[:, None]
    assert np.array(frame.colour_matrix).reshape(3, 3) @ balanced == pytest.approx(np.eye(3), abs=1e-6)


@pytest.mark.parametrize(
    ("repeat", "levels", "expected"),
    [
        ([1, 1], (LONG, [100]), (100, 100, 100, 100)),
        ([1, 1], (RATIONAL, [100.25]), (100.25,) * 4),
        ([2, 2], (SHORT, [1, 2, 3, 4]), (1, 2, 3, 4)),
        ([2, 2], (RATIONAL, [1.5, 2.5, 3.5, 4.5]), (1.5, 2.5, 3.5, 4.5)),
        ([1, 2], (SHORT, [1, 2]), (1, 2, 1, 2)),
        ([2, 1], (SHORT, [1, 2]), (1, 1, 2, 2)),
        ([4, 2], (SHORT, [1, 2, 3, 4, 1, 2, 3, 4]), (1, 2, 3, 4)),
        ([3, 1], (SHORT, [7, 7, 7]), (7, 7, 7, 7)),
    ],
)
def test_black_level_in_all_its_forms(
    tmp_path: Path, repeat: list[int], levels: Tag, expected: tuple[float, ...]
) -> None:
    tags: dict[str, Tag | None] = {"BlackLevelRepeatDim": (SHORT, repeat), "BlackLevel": levels}
    assert read(tmp_path, **tags).black_level == pytest.approx(expected)
    # In the order R, Gr, Gb, B, whatever the colour order.
    swapped = read(tmp_path, **tags, CFAPattern=(BYTE, [2, 1, 1, 0])).black_level
    assert swapped == pytest.approx(tuple(reversed(expected)))
    assert load_dng_profile(tmp_path / "a.dng").black_level == pytest.approx(swapped)


def test_black_level_of_rows_and_columns_is_taken_off(tmp_path: Path) -> None:
    rows, columns = np.arange(48) % 3 - 1.0, np.arange(64) % 5 * 0.5
    frame = read(
        tmp_path,
        BlackLevelDeltaV=(SIGNED_RATIONAL, rows.tolist()),
        BlackLevelDeltaH=(SIGNED_RATIONAL, columns.tolist()),
    )
    np.testing.assert_array_equal(codes_of(frame), np.rint(CODES - rows[:, None] - columns))
    with pytest.raises(FormatError, match="BlackLevelDeltaH must be 64 finite numbers"):
        read(tmp_path, BlackLevelDeltaH=(SIGNED_RATIONAL, [1.0, 2.0]))


def test_a_linearization_table_is_applied(tmp_path: Path) -> None:
    table = np.minimum(np.arange(4096) * 2, 8191)
    frame = read(tmp_path, LinearizationTable=(SHORT, table.tolist()), WhiteLevel=None)
    np.testing.assert_array_equal(codes_of(frame), CODES * 2)
    assert (frame.white_level, frame.format.bit_depth) == (8190, 13)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (2, 4), (1, 0), (0, 3), (3, 5)])
@pytest.mark.parametrize(("crop_y", "crop_x"), [(0, 0), (2, 2), (1, 2), (3, 1)])
def test_active_area_and_crop(tmp_path: Path, top: int, left: int, crop_y: int, crop_x: int) -> None:
    frame = read(
        tmp_path,
        ActiveArea=(SHORT, [top, left, 46, 60]),
        DefaultCropOrigin=(SHORT, [crop_x, crop_y]),
        DefaultCropSize=(SHORT, [50, 38]),
        BlackLevelRepeatDim=(SHORT, [2, 2]),
        BlackLevel=(SHORT, [1, 2, 3, 4]),
    )
    y, x = top + crop_y, left + crop_x
    np.testing.assert_array_equal(codes_of(frame), CODES[y : y + 38, x : x + 50])
    # The pattern starts at the active area, and levels belong to colours.
    pattern = "RGGB"
    expected = "".join(pattern[2 * ((r + crop_y) % 2) + (c + crop_x) % 2] for r in range(2) for c in range(2))
    assert frame.format.cfa == expected
    assert list(frame.black_level) == [1, 2, 3, 4]
    assert frame.window == SensorWindow(crop_x, crop_y, 50, 38, (60 - left, 46 - top))
    with rawpy.imread(str(tmp_path / "a.dng")) as raw:
        colours = raw.raw_colors[y : y + 2, x : x + 2].ravel()
        assert "".join("RGBG"[colour] for colour in colours) == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, orientation: int) -> None:
    assert read(tmp_path, Orientation=(SHORT, [orientation])).orientation == orientation


def test_what_the_camera_says_of_exposure(tmp_path: Path) -> None:
    frame = read(
        tmp_path,
        ISOSpeedRatings=(SHORT, [400]),
        ExposureTime=(RATIONAL, [0.02]),
        NoiseProfile=(DOUBLE, [2e-4, 1e-7, 4e-4, 3e-7, 3e-4, 2e-7]),
        BaselineExposure=(SIGNED_RATIONAL, [-0.5]),
    )
    assert (frame.analogue_gain, frame.exposure_ns, frame.baseline_exposure_ev) == (4, 20_000_000, -0.5)
    assert frame.noise_profile == pytest.approx((3e-4, 2e-7))


def neutral_under(kelvin: float, matrix: tuple[float, ...]) -> NDArray[np.float64]:
    neutral: NDArray[np.float64] = np.array(matrix).reshape(3, 3) @ white_xyz(kelvin)
    brightest: NDArray[np.float64] = neutral / neutral.max()
    return brightest


TWO_LIGHTS: dict[str, Tag | None] = {
    "ColorMatrix1": (SIGNED_RATIONAL, WARM_MATRIX),
    "CalibrationIlluminant1": (SHORT, [17]),
    "ColorMatrix2": (SIGNED_RATIONAL, MATRIX),
    "CalibrationIlluminant2": (SHORT, [21]),
}


@pytest.mark.parametrize("kelvin", [2500, 2856, 3500, 4500, 5500, 6504, 9000])
def test_matrices_are_interpolated_by_the_white_balance(tmp_path: Path, kelvin: float) -> None:
    inside = min(max(kelvin, 2856.0), 6504.0)
    share = (1 / inside - 1 / 6504) / (1 / 2856 - 1 / 6504)
    matrix = tuple(share * w + (1 - share) * c for w, c in zip(WARM_MATRIX, MATRIX, strict=True))
    neutral = neutral_under(kelvin, matrix)
    frame = read(tmp_path, **TWO_LIGHTS, AsShotNeutral=(RATIONAL, neutral.tolist()))
    alone = read(
        tmp_path,
        ColorMatrix1=(SIGNED_RATIONAL, matrix),
        AsShotNeutral=(RATIONAL, neutral.tolist()),
    )
    assert frame.colour_matrix == pytest.approx(alone.colour_matrix, abs=0.02)
    assert frame.colour_gains == pytest.approx((neutral[1] / neutral[0], neutral[1] / neutral[2]), rel=1e-4)


def test_a_chromaticity_in_the_place_of_a_neutral(tmp_path: Path) -> None:
    xyz = white_xyz(6504)
    x, y = xyz[0] / xyz.sum(), xyz[1] / xyz.sum()
    frame = read(tmp_path, **TWO_LIGHTS, AsShotNeutral=None, AsShotWhiteXY=(RATIONAL, [x, y]))
    neutral = neutral_under(6504, MATRIX)
    assert frame.colour_gains == pytest.approx((neutral[1] / neutral[0], neutral[1] / neutral[2]), rel=0.01)


def test_without_white_balance_or_matrix(tmp_path: Path) -> None:
    frame = read(tmp_path, AsShotNeutral=None)
    assert frame.colour_gains is None
    assert frame.colour_matrix is not None
    frame = read(tmp_path, ColorMatrix1=None)
    assert frame.colour_matrix is None
    assert frame.colour_gains == pytest.approx((2, 1 / 0.65))


def test_a_forward_matrix_goes_before_the_colour_matrix(tmp_path: Path) -> None:
    d50_of_srgb = np.array(  # Bradford (Lindbloom)
        [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
    )
    saturating = np.array([[1.6, -0.5, -0.1], [-0.2, 1.5, -0.3], [0.1, -0.6, 1.5]])
    frame = read(tmp_path, ForwardMatrix1=(SIGNED_RATIONAL, (d50_of_srgb @ saturating).ravel().tolist()))
    assert frame.colour_matrix == pytest.approx(tuple(saturating.ravel()), abs=2e-3)
    profile = load_dng_profile(tmp_path / "a.dng")
    assert profile.colour_matrices[0].matrix == pytest.approx(frame.colour_matrix, abs=1e-6)


@pytest.mark.parametrize("source", [0, 1, 2, 3, 4, *range(9, 25)])
def test_every_light_source_of_exif_has_a_temperature(tmp_path: Path, source: int) -> None:
    frame = read(tmp_path, CalibrationIlluminant1=(SHORT, [source]))
    assert frame.colour_matrix == pytest.approx(read(tmp_path).colour_matrix)
    (matrix,) = load_dng_profile(
        write_dng(tmp_path / "b.dng", CODES, {"CalibrationIlluminant1": (SHORT, [source])})
    ).colour_matrices
    assert 2500 < matrix.colour_temperature_k < 8000


@pytest.mark.parametrize(
    "tags",
    [
        {"AsShotNeutral": (RATIONAL, [1e-6, 1, 0.65])},
        {"BaselineExposure": (SIGNED_RATIONAL, [100.0])},
        {"BaselineExposure": (SIGNED_RATIONAL, [-100.0])},
        {"ISOSpeedRatings": (LONG, [2_000_000_000])},
    ],
)
def test_what_no_camera_has_counts_as_absent_everywhere(
    tmp_path: Path, tags: dict[str, Tag | None], caplog: pytest.LogCaptureFixture
) -> None:
    """`develop` gives the picture of `Pipeline`, and both say it."""
    path = write_dng(tmp_path / "a.dng", CODES, tags)
    developed = edge_isp.develop(path)
    assert caplog.text.count("it counts as absent") == 1
    with edge_isp.Pipeline(ReplayCamera(path)) as pipeline:
        (result,) = list(pipeline)
    np.testing.assert_array_equal(result.picture.rgb, developed)
    assert caplog.text.count("it counts as absent") == 2


def test_analog_balance_and_camera_calibration(tmp_path: Path) -> None:
    plain = read(tmp_path)
    # Gains of the channels before digitisation: white balance differs by them, colours behind it do not.
    balanced = read(tmp_path, AnalogBalance=(RATIONAL, [1.5, 1, 1.25]), AsShotNeutral=(RATIONAL, [0.75, 1, 0.8125]))
    assert balanced.colour_matrix == pytest.approx(plain.colour_matrix, abs=1e-6)
    specimen: dict[str, Tag | None] = {"CameraCalibration1": (SIGNED_RATIONAL, [1, 0.05, 0, 0, 1, 0, 0, 0.02, 1])}
    calibrated = read(tmp_path, **specimen)
    assert calibrated.colour_matrix != pytest.approx(plain.colour_matrix, abs=1e-3)
    other = read(tmp_path, **specimen, CameraCalibrationSignature=(ASCII, "of another profile"))
    assert other.colour_matrix == plain.colour_matrix


def test_replay_and_import_agree(tmp_path: Path) -> None:
    frame = read(tmp_path)
    profile = load_dng_profile(tmp_path / "a.dng")
    assert profile.colour_matrices[0].matrix == pytest.approx(frame.colour_matrix)
    assert (profile.black_level, profile.white_level) == (frame.black_level, frame.white_level)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (
            {"CFARepeatPatternDim": (SHORT, [4, 4]), "CFAPattern": (BYTE, [0, 0, 1, 1] * 4)},
            "CFARepeatPatternDim is 4x4",
        ),
        ({"CFARepeatPatternDim": (SHORT, [6, 6]), "CFAPattern": (BYTE, [0, 1, 2] * 12)}, "CFARepeatPatternDim is 6x6"),
        ({"CFAPattern": (BYTE, [0, 1, 2, 1])}, "CFAPattern is 0, 1, 2, 1"),
        ({"CFAPattern": (BYTE, [3, 4, 4, 5])}, "CFAPattern is 3, 4, 4, 5"),
        ({"CFAPattern": None}, "it has no CFAPattern"),
        ({"CFALayout": (SHORT, [2])}, "not one rectangular mosaic"),
        ({"BlackLevel": (LONG, [5000])}, "BlackLevel must be below WhiteLevel, found 5000 and 4095"),
        ({"BlackLevel": (LONG, [4095])}, "BlackLevel must be below WhiteLevel, found 4095 and 4095"),
        (
            {"BlackLevelDeltaV": (SIGNED_RATIONAL, [0.0] * 47 + [3839.0])},
            "BlackLevel with BlackLevelDeltaH and BlackLevelDeltaV must be below WhiteLevel, found 4095 and 4095",
        ),
        ({"BlackLevelDeltaH": (SIGNED_RATIONAL, [5000.0] * 64)}, "must be below WhiteLevel, found 5256 and 4095"),
        ({"BlackLevel": (SIGNED_RATIONAL, [-5])}, "BlackLevel must not be negative, found -5"),
        ({"BlackLevel": (SHORT, [1, 2])}, "BlackLevel must be 1 finite numbers, found 1, 2"),
        (
            {"BlackLevelRepeatDim": (SHORT, [1, 4]), "BlackLevel": (SHORT, [1, 2, 3, 4])},
            "BlackLevel must be the same for each 2x2 cell, found a pattern of 1x4: 1, 2, 3, 4",
        ),
        ({"BlackLevelRepeatDim": (SHORT, [0, 1])}, "BlackLevelRepeatDim must be 1x1 to 64x64, found 0x1"),
        ({"WhiteLevel": (LONG, [0])}, "WhiteLevel must be a code of 8 to 16 bits, found 0"),
        ({"WhiteLevel": (LONG, [70000])}, "WhiteLevel must be a code of 8 to 16 bits, found 70000"),
        ({"ActiveArea": (LONG, [0, 0, 49, 64])}, "ActiveArea must lie inside the picture of 64x48"),
        ({"ActiveArea": (LONG, [5, 0, 5, 64])}, "ActiveArea must lie inside"),
        ({"DefaultCropSize": (LONG, [66, 48])}, "DefaultCrop must lie inside the active area of 64x48"),
        ({"DefaultCropSize": (LONG, [1, 48])}, "DefaultCrop must lie inside"),
        ({"AsShotNeutral": (RATIONAL, [0, 1, 1])}, "AsShotNeutral must be 3 positive numbers"),
        ({"AsShotNeutral": (RATIONAL, [1, 1])}, "AsShotNeutral must be 3 finite numbers, found 1, 1"),
        ({"AsShotNeutral": None, "AsShotWhiteXY": (RATIONAL, [1.5, 0.2])}, "AsShotWhiteXY must be a chromaticity"),
        ({"AnalogBalance": (RATIONAL, [0, 1, 1])}, "ColorMatrix1 cannot be of a camera"),
        ({"ForwardMatrix1": (SIGNED_RATIONAL, [0] * 9)}, "ForwardMatrix1 cannot be of a camera"),
        ({"ColorMatrix1": (DOUBLE, [float("nan")] * 9)}, "ColorMatrix1 must be 9 finite numbers, found nan"),
        ({"CalibrationIlluminant1": (SHORT, [255])}, "CalibrationIlluminant1 must be an EXIF light source"),
        ({"NoiseProfile": (DOUBLE, [1e-4])}, "NoiseProfile must be pairs"),
        ({"NoiseProfile": (DOUBLE, [-1, 0])}, "NoiseProfile must be variances"),
    ],
)
def test_what_cannot_be_is_one_error_for_replay_and_import(tmp_path: Path, tags: dict[str, Any], message: str) -> None:
    path = write_dng(tmp_path / "wrong.dng", CODES, tags)
    errors = []
    for read_file in (ReplayCamera, load_dng_profile, read_dng):
        with pytest.raises(FormatError) as caught:
            read_file(path)
        errors.append(str(caught.value))
    assert errors[0].startswith(f"{path}: ")
    assert message in errors[0]
    assert len(set(errors)) == 1


EVERY_TAG: dict[str, Tag | None] = {
    **TWO_LIGHTS,
    "ForwardMatrix1": (SIGNED_RATIONAL, [0.4, 0.4, 0.16, 0.2, 0.7, 0.1, 0.0, 0.1, 0.7]),
    "ForwardMatrix2": (SIGNED_RATIONAL, [0.4, 0.3, 0.26, 0.2, 0.6, 0.2, 0.0, 0.0, 0.8]),
    "CameraCalibration1": (SIGNED_RATIONAL, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
    "AnalogBalance": (RATIONAL, [1, 1, 1]),
    "BlackLevelRepeatDim": (SHORT, [2, 2]),
    "BlackLevel": (RATIONAL, [1.5, 2, 3, 4]),
    "BlackLevelDeltaH": (SIGNED_RATIONAL, [0.5] * 58),
    "BlackLevelDeltaV": (SIGNED_RATIONAL, [-0.5] * 44),
    "ActiveArea": (SHORT, [2, 2, 46, 60]),
    "DefaultCropOrigin": (RATIONAL, [1, 1]),
    "DefaultCropSize": (RATIONAL, [50, 40]),
    "ISOSpeedRatings": (SHORT, [400]),
    "ExposureTime": (RATIONAL, [0.02]),
    "NoiseProfile": (DOUBLE, [2e-4, 1e-7]),
    "BaselineExposure": (SIGNED_RATIONAL, [0.3]),
    "LinearizationTable": (SHORT, list(range(4096))),
}


@given(st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_damaged_files_give_a_format_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(write_dng(folder / "damaged.dng", CODES, EVERY_TAG).read_bytes())
    head = len(content) - 2 * CODES.size
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, head - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    (folder / "damaged.dng").write_bytes(content)
    # What is read is a frame, or one of the library's errors; anything else, a warning too, fails.
    with contextlib.suppress(FormatError, ProfileError):
        load_dng_profile(folder / "damaged.dng")
    with contextlib.suppress(FormatError):
        frame_of(folder / "damaged.dng")


def test_a_whole_file_of_every_tag_is_read(tmp_path: Path) -> None:
    frame = read(tmp_path, **EVERY_TAG)
    assert (frame.format.width, frame.format.height) == (50, 40)
    load_dng_profile(tmp_path / "a.dng")


def test_a_mosaic_behind_a_thumbnail(tmp_path: Path) -> None:
    """As most cameras write it: a small picture and the tags first, the mosaic in a directory below."""
    path = tmp_path / "a.dng"
    matrix = [n for value in MATRIX for n in (round(value * 10000), 10000)]
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            np.zeros((16, 16, 3), np.uint8),
            photometric="rgb",
            subfiletype=1,
            subifds=2,
            extratags=[
                (274, SHORT, 1, 6, True),
                (50706, BYTE, 4, bytes([1, 4, 0, 0]), True),
                (50708, ASCII, 0, "Two Pictures", True),
                (50721, SIGNED_RATIONAL, 9, tuple(matrix), True),
                (50728, RATIONAL, 3, (1, 2, 1, 1, 13, 20), True),
            ],
        )
        for codes, kind in ((CODES[:16, :16], 1), (CODES, 0)):
            writer.write(
                codes,
                photometric=32803,
                subfiletype=kind,
                extratags=[
                    (33421, SHORT, 2, (2, 2), True),
                    (33422, BYTE, 4, bytes([1, 0, 2, 1]), True),
                    (50714, SHORT, 1, 100, True),
                    (50717, SHORT, 1, 4000, True),
                    (274, SHORT, 1, 1, True),
                ],
            )
    frame = frame_of(path)
    np.testing.assert_array_equal(codes_of(frame), CODES)
    assert (frame.format.cfa, frame.orientation, frame.white_level) == ("GRBG", 6, 4000)
    assert frame.colour_gains == pytest.approx((2, 20 / 13))
    assert frame.colour_matrix is not None
