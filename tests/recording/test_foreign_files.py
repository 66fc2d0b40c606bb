"""RAW files that other programs wrote: rpicam-raw, picamera2, raspiraw, and DNGs as PiDNG and phones write them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_isp.cameras.replay import ReplayCamera
from edge_isp.errors import FormatError
from edge_isp.frame import Cfa, Packing, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.kernels.unpack import unpack
from tests.support.dng import BYTE, DOUBLE, LONG, RATIONAL, SHORT, SIGNED_RATIONAL, write_dng

CODES = np.random.default_rng(3).integers(64, 1024, (3, 48, 64)).astype(np.uint16)

SIDECAR = """
[format]
width = 64
height = 48
cfa = "BGGR"
bit_depth = 10
packing = "csi2p"
stride = 96
[sensor]
name = "imx219"
"""


def libcamera_metadata(number: int) -> dict[str, Any]:
    """What rpicam-raw writes of a frame."""
    return {
        "AeState": 2,
        "AnalogueGain": 1.0 + number,
        "ColourCorrectionMatrix": [1.9, -0.6, -0.3, -0.4, 1.8, -0.4, -0.1, -0.7, 1.8],
        "ColourGains": [1.5, 1.75],
        "ColourTemperature": 4500,
        "DigitalGain": 1.25,
        "ExposureTime": 10_000,
        "FocusFoM": 1234,
        "FrameDuration": 33_333,
        "Lux": 400.5,
        "ScalerCrop": [0, 0, 3280, 2464],
        "SensorBlackLevels": [4096, 4096, 4096, 4096],
        "SensorTimestamp": 5_000_000_000 + 33_333_000 * number,
    }


def write_raw(path: Path, stride: int = 96) -> None:
    """Three frames, as rpicam-raw writes them: one behind the other, rows padded."""
    path.write_bytes(b"".join(pack(each, packing="csi2p", bit_depth=10, stride=stride).tobytes() for each in CODES))


def replayed(path: Path) -> list[RawFrame]:
    """All frames of a file."""
    with ReplayCamera(path) as camera:
        return [frame for frame in iter(camera.read, None) if frame is not None]


def check_frames(frames: list[RawFrame]) -> None:
    """They are the three that `libcamera_metadata` describes."""
    assert len(frames) == 3
    for number, frame in enumerate(frames):
        assert np.array_equal(unpack(frame.data, frame.format.layout), CODES[number])
        assert (frame.analogue_gain, frame.digital_gain, frame.exposure_ns) == (1.0 + number, 1.25, 10_000_000)
        assert (frame.colour_gains, frame.colour_temperature_k) == ((1.5, 1.75), 4500.0)
        assert frame.timestamp_ns == 5_000_000_000 + 33_333_000 * number - 10_000_000
        assert frame.colour_matrix is not None
        assert frame.colour_matrix[0] == 1.9
        assert frame.black_level == (64.0,) * 4
        assert (frame.white_level, frame.sensor) == (1023.0, "imx219")


def test_rpicam_raw_with_a_sidecar_and_its_metadata(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.raw")
    (tmp_path / "a.toml").write_text(SIDECAR)
    (tmp_path / "a.json").write_text(json.dumps([libcamera_metadata(number) for number in range(3)], indent=4))
    frames = replayed(tmp_path / "a.raw")
    check_frames(frames)
    assert frames[0].format.cfa == "BGGR"


@pytest.mark.parametrize("with_framesize", [False, True])
def test_picamera2s_raw_and_dictionaries(tmp_path: Path, with_framesize: bool) -> None:
    write_raw(tmp_path / "a.raw")
    stream: dict[str, Any] = {"format": "SBGGR10_CSI2P", "size": (64, 48), "stride": 96}
    if with_framesize:
        stream["framesize"] = 96 * 48
    document = {"raw": stream, "sensor": "imx219", "metadata": [libcamera_metadata(number) for number in range(3)]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    check_frames(replayed(tmp_path / "a.raw"))


@pytest.mark.parametrize(
    ("name", "packing", "bit_depth"),
    [("SGRBG10", Packing.U16, 10), ("SRGGB16", Packing.U16_LEFT, 10), ("SGBRG12_CSI2P", Packing.CSI2P, 12)],
)
def test_picamera2s_formats(tmp_path: Path, name: str, packing: Packing, bit_depth: int) -> None:
    data = pack(CODES[0], packing=packing, bit_depth=bit_depth)
    (tmp_path / "a.raw").write_bytes(data.tobytes())
    stream = {"format": name, "size": [64, 48], "stride": data.shape[1]}
    (tmp_path / "a.json").write_text(json.dumps({"raw": stream, "sensor": "imx219"}))
    (frame,) = replayed(tmp_path / "a.raw")
    assert (frame.format.packing, frame.format.bit_depth, frame.format.cfa) == (packing, bit_depth, name[1:5])
    assert np.array_equal(unpack(frame.data, frame.format.layout), CODES[0])
    assert frame.white_level == 1023 << (bit_depth - 10)
    assert frame.black_level == (64.0 * 2 ** (bit_depth - 10),) * 4


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("[", "cut off"),
        ("[1]", "says nothing of the frames' layout"),
        ('{"raw": {"format": "SRGGB10", "size": [64, 48]}, "sensor": "imx219", "metadata": [1]}', "an object of"),
        ("{}", "says nothing of the frames' layout"),
        ('{"raw": {"format": "RGB888", "size": [64, 48], "stride": 96}, "sensor": "imx219"}', "not known"),
        ('{"raw": {"format": "SRGGB10", "size": 64}, "sensor": "imx219"}', "must have a format"),
        ('{"raw": {"format": "SRGGB10", "size": [1e400, 48]}, "sensor": "imx219"}', "must have a format"),
        ('{"raw": {"format": "SRGGB10", "size": [64, 48]}, "sensor": 5}', "sensor must be a name"),
        ('{"raw": {"format": "SRGGB10", "size": [64, 48]}}', "no SensorBlackLevels"),
    ],
)
def test_a_wrong_description_is_one_error(tmp_path: Path, document: str, reason: str) -> None:
    write_raw(tmp_path / "a.raw")
    (tmp_path / "a.json").write_text(document)
    with pytest.raises(FormatError, match=reason):
        ReplayCamera(tmp_path / "a.raw")


def test_another_number_of_metadata_than_frames_is_an_error(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.raw")
    (tmp_path / "a.toml").write_text(SIDECAR)
    (tmp_path / "a.json").write_text(json.dumps([libcamera_metadata(number) for number in range(2)]))
    with pytest.raises(FormatError, match="holds 3 frames"):
        ReplayCamera(tmp_path / "a.raw")


def test_values_that_are_no_numbers_count_as_absent(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.raw")
    (tmp_path / "a.toml").write_text(SIDECAR)
    strange = {
        "AnalogueGain": "2",
        "ColourGains": [1],
        "ExposureTime": None,
        "SensorTimestamp": "x",
        "DigitalGain": True,
    }
    (tmp_path / "a.json").write_text(json.dumps([strange, {}, {"ExposureTime": 1e300, "AnalogueGain": 10**400}]))
    for frame in replayed(tmp_path / "a.raw"):
        assert (frame.analogue_gain, frame.colour_gains, frame.exposure_ns, frame.digital_gain) == (None,) * 4


def test_what_libcamera_does_not_know_yet_counts_as_absent(tmp_path: Path) -> None:
    """It reports zeros before its algorithms have run: neither the camera nor its files take them for values."""
    write_raw(tmp_path / "a.raw")
    (tmp_path / "a.toml").write_text(SIDECAR)
    zeros = {
        "AnalogueGain": 0.0,
        "DigitalGain": 0.0,
        "ColourGains": [0.0, 0.0],
        "ColourTemperature": 0,
        "ColourCorrectionMatrix": [0.0] * 9,
        "ExposureTime": 0,
    }
    (tmp_path / "a.json").write_text(json.dumps([zeros] * 3))
    with ReplayCamera(tmp_path / "a.raw") as camera:
        frame = camera.read()
    assert frame is not None
    absent = ("analogue_gain", "digital_gain", "colour_gains", "colour_temperature_k", "colour_matrix", "exposure_ns")
    assert {name: getattr(frame, name) for name in absent} == dict.fromkeys(absent)


@pytest.mark.parametrize("levels", [None, [4096, 4096], [10**400] * 4, [True] * 4, ["4096"] * 4])
def test_black_levels_that_are_none_are_the_profiles(tmp_path: Path, levels: Any) -> None:
    write_raw(tmp_path / "a.raw")
    stream = {"format": "SBGGR10_CSI2P", "size": (64, 48), "stride": 96}
    document = {"raw": stream, "sensor": "imx219", "metadata": [{"SensorBlackLevels": levels}] * 3}
    (tmp_path / "a.json").write_text(json.dumps(document))
    frame = replayed(tmp_path / "a.raw")[0]
    assert frame.black_level == (64.0,) * 4
    assert (frame.origins.of("black_level"), frame.origins.of("colour_gains")) == ("profile 'imx219'", "file")


def broadcom_header(order: int, bits: int, name: bytes = b"imx219", kind: int = 33) -> bytes:
    """As raspiraw writes it."""
    mode = struct.pack("<32sHHHH24xHHBB", name, 64, 48, 0, 0, 0, kind, order, bits)
    return (b"BRCMo\x80\0\0".ljust(0xB0, b"\0") + mode).ljust(0x8000, b"\0")


@pytest.mark.parametrize(("order", "cfa"), [(0, "RGGB"), (1, "GBRG"), (2, "BGGR"), (3, "GRBG")])
def test_raspiraws_dumps_with_headers(tmp_path: Path, order: int, cfa: str) -> None:
    rows = pack(CODES[0], packing="csi2p", bit_depth=10, stride=96)
    (tmp_path / "a.raw").write_bytes(broadcom_header(order, 3) + rows.tobytes())
    (frame,) = replayed(tmp_path / "a.raw")
    assert (frame.format.cfa, frame.format.packing, frame.format.bit_depth) == (Cfa(cfa), Packing.CSI2P, 10)
    assert np.array_equal(unpack(frame.data, frame.format.layout), CODES[0])
    assert (frame.sensor, frame.black_level, frame.white_level) == ("imx219", (64.0,) * 4, 1023.0)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (broadcom_header(7, 3), "not Bayer RAW"),
        (broadcom_header(0, 9), "not Bayer RAW"),
        (broadcom_header(0, 3, kind=1), "not Bayer RAW"),
        (broadcom_header(0, 3, b"tc358743"), "offset = 32768"),
        (b"BRCM", "no such file"),
    ],
)
def test_a_wrong_header_is_one_error(tmp_path: Path, header: bytes, reason: str) -> None:
    (tmp_path / "a.raw").write_bytes(header)
    with pytest.raises(FormatError, match=reason):
        ReplayCamera(tmp_path / "a.raw")


PIDNG = {
    # PiDNG 4: one directory, levels of 16 bits, matrices of its own, no Orientation.
    "BlackLevel": (SHORT, [64]),
    "WhiteLevel": (SHORT, [1023]),
    "ColorMatrix1": (SIGNED_RATIONAL, (0.7, -0.22, -0.06, -0.45, 1.25, 0.22, -0.1, 0.25, 0.6)),
    "CalibrationIlluminant1": (SHORT, [21]),
    "AsShotNeutral": (RATIONAL, [0.6, 1, 0.55]),
    "CFAPattern": (BYTE, [2, 1, 1, 0]),
}
PHONE = {
    # Android's DngCreator: a level for each place, two illuminants, noise of every plane, turned.
    "BlackLevelRepeatDim": (SHORT, [2, 2]),
    "BlackLevel": (RATIONAL, [64, 63, 65, 64]),
    "WhiteLevel": (LONG, [1023]),
    "ColorMatrix1": (SIGNED_RATIONAL, (0.8, -0.3, -0.05, -0.35, 1.15, 0.2, -0.05, 0.2, 0.45)),
    "ColorMatrix2": (SIGNED_RATIONAL, (0.7, -0.22, -0.06, -0.45, 1.25, 0.22, -0.1, 0.25, 0.6)),
    "CalibrationIlluminant1": (SHORT, [17]),
    "CalibrationIlluminant2": (SHORT, [21]),
    "Orientation": (SHORT, [6]),
    "NoiseProfile": (DOUBLE, [2e-4, 1e-6] * 3),
}


@pytest.mark.parametrize(("tags", "cfa"), [(PIDNG, "BGGR"), (PHONE, "RGGB")])
def test_dngs_of_others(tmp_path: Path, tags: dict[str, Any], cfa: str) -> None:
    pytest.importorskip("rawpy", reason="rawpy is not installed")
    (frame,) = replayed(write_dng(tmp_path / "a.dng", CODES[0], tags))
    assert np.array_equal(unpack(frame.data, frame.format.layout), CODES[0])
    assert frame.format.cfa == cfa
    assert frame.colour_matrix is not None
    assert frame.orientation == (6 if tags is PHONE else 1)
