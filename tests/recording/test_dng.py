"""DNG files that are written: what rawpy, exiftool, the specification's rules and our own reader find in them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp import dng_bytes, write_dng
from edge_isp.calibration.dng import read_dng
from edge_isp.calibration.light import UNKNOWN_COLOUR_TEMPERATURE_K, srgb_decode
from edge_isp.calibration.profile import load_profile
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.errors import FormatError, SinkError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.kernels.unpack import unpack
from edge_isp.recording.tiff import TiffTag, TiffType
from edge_isp.results import Picture
from edge_isp.sensor_window import SensorWindow
from edge_isp.tasks.classical import ClassicalIsp
from edge_isp.wall_clock import WallClock
from tests.support.dng_rules import check_dng, read_directories
from tests.support.recorded_frames import PACKINGS as ALL_PACKINGS

TAKEN_AT = datetime(2026, 11, 28, 10, 15, 0, 250_000, timezone(timedelta(hours=2)))

# A DNG cannot hold the Raspberry Pi 5's compressed frames.
PACKINGS = [packing for packing in ALL_PACKINGS if packing[0] != Packing.PISP_COMP1]

# sRGB values of the 24 patches of a ColorChecker Classic (X-Rite, before November 2014).
CHART = np.array(
    [
        *([115, 82, 68], [194, 150, 130], [98, 122, 157], [87, 108, 67], [133, 128, 177], [103, 189, 170]),
        *([214, 126, 44], [80, 91, 166], [193, 90, 99], [94, 60, 108], [157, 188, 64], [224, 163, 46]),
        *([56, 61, 150], [70, 148, 73], [175, 54, 60], [231, 199, 31], [187, 86, 149], [8, 133, 161]),
        *([243, 243, 242], [200, 200, 200], [160, 160, 160], [122, 122, 121], [85, 85, 85], [52, 52, 52]),
    ]
)


def a_frame(
    packing: Packing = Packing.CSI2P, bit_depth: int = 10, cfa: Cfa = Cfa.RGGB, size: tuple[int, int] = (64, 48)
) -> RawFrame:
    """A frame with every metadatum, of random codes."""
    width, height = size
    codes = np.random.default_rng(bit_depth).integers(0, 1 << bit_depth, (height, width)).astype(np.uint16)
    highest = (1 << bit_depth) - 1
    return RawFrame(
        data=pack(codes, packing=packing, bit_depth=bit_depth),
        format=RawFormat(width, height, cfa, bit_depth, packing),
        source="camera",
        sequence=7,
        timestamp_ns=1_000_000_000,
        black_level=(highest // 16, highest // 16 + 0.5, highest // 17, highest // 18),
        white_level=highest,
        sensor="imx219",
        exposure_ns=12_345_678,
        analogue_gain=2.5,
        colour_gains=load_profile("imx219").colour_gains(4600),
        window=SensorWindow(0, 0, 3280, 2464, (3280, 2464)),
    )


def read(folder: Path, frame: RawFrame) -> Any:
    """The frame's DNG as our own reader has it."""
    return read_dng_of(folder / "a.dng", frame)


def read_dng_of(path: Path, frame: RawFrame) -> Any:
    """The frame's DNG, written to a path, as our own reader has it."""
    write_dng(path, frame)
    return read_dng(path)


@pytest.mark.parametrize("cfa", list(Cfa))
@pytest.mark.parametrize(("packing", "bit_depth"), PACKINGS)
def test_rawpy_gives_back_codes_levels_and_neutral(tmp_path: Path, packing: Packing, bit_depth: int, cfa: Cfa) -> None:
    rawpy = pytest.importorskip("rawpy", reason="rawpy is not installed")
    frame = a_frame(packing, bit_depth, cfa)
    write_dng(tmp_path / "a.dng", frame)
    with rawpy.imread(str(tmp_path / "a.dng")) as raw:
        assert np.array_equal(raw.raw_image, unpack(frame.data, frame.format.layout))
        assert raw.white_level == frame.white_level
        # In LibRaw's order R, G, B, G2, whole numbers only; the first green is that of the first row.
        assert raw.black_level_per_channel[0] == int(frame.black_level[0])
        assert raw.black_level_per_channel[2] == int(frame.black_level[3])
        greens = {raw.black_level_per_channel[1], raw.black_level_per_channel[3]}
        assert greens == {int(frame.black_level[1]), int(frame.black_level[2])}
        letters = "".join("RGBG"[colour] for colour in raw.raw_pattern.ravel())
        assert letters == cfa
        assert frame.colour_gains is not None
        red, green, blue, _ = raw.camera_whitebalance
        assert (red / green, blue / green) == pytest.approx(frame.colour_gains, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (TiffType.RATIONAL, 0.25, (250_000, 1_000_000)),
        (TiffType.RATIONAL, 5000.5, (5_000_500, 1_000)),
        (TiffType.RATIONAL, 4_294_968.0, (4_294_968, 1)),
        (TiffType.RATIONAL, 1e300, (0xFFFFFFFF, 1)),
        (TiffType.RATIONAL, -1.0, (0, 1)),
        (TiffType.SIGNED_RATIONAL, -0.5, (-500_000, 1_000_000)),
        (TiffType.SIGNED_RATIONAL, -2500.0, (-2_500_000, 1_000)),
        (TiffType.SIGNED_RATIONAL, -1e300, (-0x80000000, 1)),
    ],
)
def test_a_fraction_has_the_finest_denominator_that_its_value_fits(
    kind: TiffType, value: float, expected: tuple[int, int]
) -> None:
    count, content = TiffTag(kind, [value]).packed()
    assert count == 1
    assert struct.unpack("<II" if kind is TiffType.RATIONAL else "<ii", content) == expected


def test_high_black_levels_are_kept(tmp_path: Path) -> None:
    """Of 16 bits: over a million they were cut to 4294.967."""
    frame = replace(a_frame(Packing.U16, 16), black_level=(5000.0, 5000.5, 65_000.25, 4096.0))
    assert read(tmp_path, frame).black_level == frame.black_level


def test_exiftool_finds_nothing_wrong(tmp_path: Path) -> None:
    exiftool = shutil.which("exiftool")
    if exiftool is None:
        pytest.skip("exiftool is not installed")
    frame = a_frame(size=(1640, 1232))
    picture = Picture(np.full((1232, 1640, 3), 80, np.uint8), "camera", 7, 1)
    write_dng(tmp_path / "a.dng", frame, taken_at=TAKEN_AT)
    write_dng(tmp_path / "b.dng", frame, taken_at=TAKEN_AT, thumbnail=picture)
    for name in ("a.dng", "b.dng"):
        found = subprocess.run(
            [exiftool, "-validate", "-warning", "-error", "-a", "-s3", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.split() == ["OK"]
    shown = subprocess.run(
        [exiftool, "-s3", "-ExposureTime#", "-ISO", "-SubSecDateTimeOriginal", "-Model", str(tmp_path / "b.dng")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split("\n")[:4] == ["0.012345678", "250", "2026:11:28 10:15:00.250000+02:00", "imx219"]


def variants() -> list[RawFrame]:
    """Frames that a DNG may differ for."""
    frame = a_frame()
    bare: dict[str, Any] = {
        "sensor": None,
        "exposure_ns": None,
        "analogue_gain": None,
        "colour_gains": None,
        "window": None,
    }
    return [
        frame,
        replace(frame, **bare),
        replace(frame, sensor=None, colour_matrix=(1.6, -0.4, -0.2, -0.2, 1.5, -0.3, 0.0, -0.6, 1.6)),
        replace(frame, exposure_ns=60 * 10**9, analogue_gain=1000.0, digital_gain=2.0, orientation=8),
        replace(frame, noise_profile=(1e-4, 1e-6), baseline_exposure_ev=-1.5, sensor="Caméra ☃"),
        replace(frame, colour_gains=(0.5, 0.4)),
    ]


@pytest.mark.parametrize("number", range(len(variants())))
@pytest.mark.parametrize("with_thumbnail", [False, True])
def test_the_rules_of_the_specification_hold(number: int, with_thumbnail: bool) -> None:
    picture = Picture(np.zeros((48, 64, 3), np.uint8), "camera", 7, 1) if with_thumbnail else None
    check_dng(dng_bytes(variants()[number], thumbnail=picture))


def test_our_reader_gives_the_frame_back(tmp_path: Path) -> None:
    frame = replace(a_frame(cfa=Cfa.GBRG), digital_gain=2.0, baseline_exposure_ev=0.5, orientation=3)
    found = read(tmp_path, frame)
    assert (found.model, found.cfa, found.orientation) == ("imx219", "GBRG", 3)
    assert found.black_level == pytest.approx(frame.black_level)
    assert (found.exposure_ns, found.analogue_gain) == (12_345_678, 2.5)
    assert found.colour_gains == pytest.approx(frame.colour_gains, rel=1e-5)
    assert found.baseline_exposure_ev == pytest.approx(1.5)
    profile = load_profile("imx219")
    assert profile.noise is not None
    assert found.noise_profile == pytest.approx((profile.noise.shot * 2.5, profile.noise.read_variance(2.5)))
    # The white balance of 4600 K is a point of the profile's curve.
    assert np.array(found.colour_matrix).reshape(3, 3) == pytest.approx(profile.colour_matrix(4600), abs=0.02)
    assert [entry.colour_temperature_k for entry in found.calibrations] == [2856.0, 6504.0]
    for entry in found.calibrations:
        red, blue = profile.colour_gains(entry.colour_temperature_k)
        neutral = entry.neutral()
        assert neutral[1] / neutral[[0, 2]] == pytest.approx([red, blue], rel=1e-3)


def test_a_frames_own_matrix_comes_back(tmp_path: Path) -> None:
    matrix = (1.6, -0.4, -0.2, -0.2, 1.5, -0.3, 0.0, -0.6, 1.6)
    found = read(tmp_path, replace(a_frame(), sensor=None, colour_matrix=matrix))
    assert found.colour_matrix == pytest.approx(matrix, abs=1e-4)


def test_what_counts_as_absent_is_absent(tmp_path: Path) -> None:
    frame = replace(
        a_frame(),
        sensor=None,
        exposure_ns=0,
        analogue_gain=float("nan"),
        colour_gains=(0.0, 0.0),
        colour_matrix=(float("nan"),) * 9,
        noise_profile=(2.0, 0.0),
        orientation=0,
    )
    found = read(tmp_path, frame)
    assert (found.exposure_ns, found.analogue_gain, found.colour_gains, found.noise_profile) == (None,) * 4
    assert found.orientation == 1


def test_a_replayed_dng_has_the_codes_and_is_written_again_alike(tmp_path: Path) -> None:
    pytest.importorskip("rawpy", reason="rawpy is not installed")
    frame = a_frame(Packing.CSI2P, 12, Cfa.GRBG)
    write_dng(tmp_path / "a.dng", frame, taken_at=TAKEN_AT)
    with ReplayCamera(tmp_path / "a.dng") as camera:
        replayed = camera.read()
    assert replayed is not None
    assert np.array_equal(unpack(replayed.data, replayed.format.layout), unpack(frame.data, frame.format.layout))
    assert replayed.black_level == pytest.approx(frame.black_level)
    check_dng(dng_bytes(replayed))


@pytest.mark.parametrize("cfa", list(Cfa))
def test_gain_maps_undo_the_shading_at_every_place(cfa: Cfa) -> None:
    frame = replace(a_frame(cfa=cfa, size=(1640, 1232)), colour_temperature_k=4600.0)
    _, mosaic, _ = read_directories(dng_bytes(frame))
    opcodes = bytes(mosaic[51009][1])
    (count,) = struct.unpack_from(">I", opcodes)
    assert count == 4
    shading = load_profile("imx219").shading
    assert shading is not None
    at, places = 4, []
    for _ in range(count):
        identity, *version, flags, size = struct.unpack_from(">I4BII", opcodes, at)
        assert (identity, version, flags) == (9, [1, 3, 0, 0], 1)
        top, left, bottom, right, plane, planes, row_pitch, column_pitch, rows, columns = struct.unpack_from(
            ">10I", opcodes, at + 16
        )
        assert (bottom, right, plane, planes, row_pitch, column_pitch) == (1232, 1640, 0, 1, 2, 2)
        step_y, step_x, origin_y, origin_x, map_planes = struct.unpack_from(">4dI", opcodes, at + 56)
        assert (origin_y, origin_x, map_planes) == (0, 0, 1)
        gains = np.frombuffer(opcodes, ">f4", rows * columns, at + 92).reshape(rows, columns)
        assert size == 76 + 4 * rows * columns
        at += 16 + size
        places.append((top, left))
        # A point in the frame is the sensor's, mirrored as the colour order shows.
        y, x = step_y * 5, step_x * 20
        vertical, horizontal = cfa in ("GBRG", "BGGR"), cfa in ("GRBG", "BGGR")
        row, column = 2464 * (1 - y if vertical else y), 3280 * (1 - x if horizontal else x)
        expected = shading.gains_at(np.array([row]), np.array([column]), (3280, 2464), 4600.0)[0, 0]
        assert gains[5, 20] == pytest.approx(expected["RGB".index(cfa[2 * top + left])], rel=1e-6)
    assert at == len(opcodes)
    assert places == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_no_gain_maps_where_there_is_no_shading_to_correct() -> None:
    for frame in (
        replace(a_frame(), lens_shading=False),
        replace(a_frame(), sensor=None),
        replace(a_frame(), window=None),  # 64x48 of an unknown part of the sensor
    ):
        _, mosaic, _ = read_directories(dng_bytes(frame))
        assert 51009 not in mosaic


@pytest.mark.parametrize("kelvin", [2900, 4600, 6504, 7500])
@pytest.mark.parametrize("sensor", ["imx219", "imx708"])
def test_rawpys_picture_of_a_colour_chart_is_ours(tmp_path: Path, sensor: str, kelvin: float) -> None:
    rawpy = pytest.importorskip("rawpy", reason="rawpy is not installed")
    colour = pytest.importorskip("skimage.color", reason="scikit-image is not installed")
    frame = chart_frame(sensor, kelvin)
    write_dng(tmp_path / "chart.dng", frame)
    with rawpy.imread(str(tmp_path / "chart.dng")) as raw:
        theirs = raw.postprocess(
            demosaic_algorithm=rawpy.DemosaicAlgorithm.LINEAR,
            use_camera_wb=True,
            no_auto_bright=True,
            gamma=(2.4, 12.92),
            adjust_maximum_thr=0,
        )
    ours = ClassicalIsp(tone="srgb").develop(frame).rgb
    differences = colour.deltaE_ciede2000(colour.rgb2lab(patches(ours) / 255), colour.rgb2lab(patches(theirs) / 255))
    assert differences.max() < 2


@pytest.mark.parametrize("kelvin", [2500, 2900, 4600, 6504, 7500])
@pytest.mark.parametrize("sensor", ["imx219", "imx708", "imx477"])
def test_colours_follow_a_white_balance_that_is_changed(tmp_path: Path, sensor: str, kelvin: float) -> None:
    """The two lights differ as the profile's do; between them, at the frame's own light, lie the frame's colours."""
    profile = load_profile(sensor)
    frame = chart_frame(sensor, kelvin)
    found = read(tmp_path, frame)
    own = profile.colour_matrix(kelvin)
    assert np.array(found.colour_matrix).reshape(3, 3) == pytest.approx(own, abs=1e-3)
    tungsten, daylight = (entry.srgb_matrix(entry.neutral()) for entry in found.calibrations)
    change = profile.colour_matrix(2856) - profile.colour_matrix(6504)
    assert np.abs(change).max() > 0.05
    assert tungsten - daylight == pytest.approx(change, abs=1e-3)
    without_neutral = read_dng_of(tmp_path / "b.dng", replace(frame, colour_gains=None, colour_temperature_k=None))
    expected = profile.colour_matrix(UNKNOWN_COLOUR_TEMPERATURE_K)
    assert np.array(without_neutral.colour_matrix).reshape(3, 3) == pytest.approx(expected, abs=1e-3)


def chart_frame(sensor: str, kelvin: float) -> RawFrame:
    """A colour chart under a light, as a sensor sees it."""
    profile = load_profile(sensor).at_bit_depth(12)
    red, blue = profile.colour_gains(kelvin)
    camera = np.clip(0.9 * srgb_decode(CHART / 255) @ np.linalg.inv(profile.colour_matrix(kelvin)).T, 0, 1)
    neutral = np.array([1 / red, 1.0, 1 / blue])
    cells = (camera * neutral / neutral.max()).reshape(4, 6, 3).repeat(64, 0).repeat(64, 1)
    light = np.zeros(cells.shape[:2])
    for y, x, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        light[y::2, x::2] = cells[y::2, x::2, channel]
    black = profile.black_level[0]
    codes = np.rint(black + light * (profile.white_level - black)).astype(np.uint16)
    return RawFrame(
        data=pack(codes, packing="csi2p", bit_depth=12),
        format=RawFormat(384, 256, Cfa.RGGB, 12, Packing.CSI2P),
        source="chart",
        sequence=0,
        timestamp_ns=1,
        black_level=(black,) * 4,
        white_level=profile.white_level,
        sensor=sensor,
        colour_gains=(red, blue),
        colour_temperature_k=kelvin,
        lens_shading=False,
    )


def patches(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean of each patch's middle."""
    cells = rgb.reshape(4, 64, 6, 64, 3)[:, 16:48, :, 16:48]
    means: NDArray[np.float64] = cells.mean(axis=(1, 3)).reshape(24, 3)
    return means


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_thumbnail_lies_as_the_frame_does(tmp_path: Path, orientation: int) -> None:
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    frame = replace(chart_frame("imx219", 6504), orientation=orientation)
    picture = ClassicalIsp().develop(frame)
    write_dng(tmp_path / "a.dng", frame, thumbnail=picture)
    lying = ClassicalIsp().develop(replace(frame, orientation=1)).rgb
    with tifffile.TiffFile(tmp_path / "a.dng") as file:
        small = file.pages[0].asarray()
    assert small.shape == (171, 256, 3)
    # The chart's first patch is brown, its last in the first row cyan.
    assert small[10, 10].tolist() == pytest.approx(lying[16, 16].tolist(), abs=3)
    assert small[10, 245].tolist() == pytest.approx(lying[16, 370].tolist(), abs=3)


def test_the_time_of_a_frame_without_one_comes_from_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_isp.recording.dng.time.monotonic_ns", lambda: 5_000_000_000)
    clock = WallClock(lambda: 1_000_000_004_000_000_000, lambda: 5_000_000_000)
    monkeypatch.setattr("edge_isp.recording.dng.SYSTEM_WALL_CLOCK", clock)
    first, _, exif = read_directories(dng_bytes(a_frame()))  # 4 s old
    assert bytes(exif[36867][1]) == b"2001:09:09 01:46:40\0"
    assert bytes(first[306][1]) == b"2001:09:09 01:46:40\0"
    assert bytes(exif[36881][1]) == b"+00:00\0"
    first, _, exif = read_directories(dng_bytes(replace(a_frame(), timestamp_ns=6_000_000_000)))
    assert 36867 not in exif
    assert 306 not in first


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(b"mine")
    with pytest.raises(SinkError, match="is there already"):
        write_dng(tmp_path / "a.dng", a_frame())
    assert (tmp_path / "a.dng").read_bytes() == b"mine"
    with pytest.raises(SinkError, match="cannot be written"):
        write_dng(tmp_path / "nowhere" / "a.dng", a_frame())
    assert [path.name for path in tmp_path.iterdir()] == ["a.dng"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": np.zeros((4, 4), np.uint8)}, "data must be uint8"),
        ({"black_level": (-1.0, 0.0, 0.0, 0.0)}, "black below white, found black"),
        ({"black_level": (2000.0, 0.0, 0.0, 0.0)}, "black_level must be"),
        ({"white_level": 1e6}, "codes from 0 to 65535"),
        ({"sensor": None, "colour_matrix": (1.0,) * 9}, "have an inverse"),
    ],
)
def test_a_frame_that_no_dng_can_hold(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        dng_bytes(replace(a_frame(), **changes))


def test_fractions_stay_within_their_numbers() -> None:
    assert TiffTag(TiffType.SIGNED_RATIONAL, [1e9, -1e9, 1e10, -1e10]).packed()[1] == struct.pack(
        "<8i", 10**9, 1, -(10**9), 1, 0x7FFFFFFF, 1, -0x80000000, 1
    )
