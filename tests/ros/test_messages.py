"""Messages of ROS 2, byte for byte against CDR that was written from its definition; bags; calibrations."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader

from edge_isp.errors import CalibrationError, SinkError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.results import Detections, FrameResult
from edge_isp.ros import messages
from edge_isp.ros.camera_info import load_camera_info
from edge_isp.ros.definitions import serialise, typestore
from edge_isp.sinks.rosbag import RosbagSink
from edge_isp.testing import check_sink
from edge_isp.testing.sink import detections_result, picture_result
from tests.ros import cdr

TIME_NS = 1_764_300_000_123_456_789
CALIBRATION = """\
image_width: 64
image_height: 48
camera_name: camera
camera_matrix:
  rows: 3
  cols: 3
  data: [50.5, 0, 32, 0, 50.25, 24, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.1, -0.2, 0.001, 0.002, 0.0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [50.0, 0.0, 32.0, 0.0, 0.0, 50.0, 24.0, 0.0, 0.0, 0.0, 1.0, 0.0]
"""


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "camera.yaml"
    path.write_text(CALIBRATION)
    return path


def stamped(result: FrameResult) -> FrameResult:
    """With a start of exposure that is known on CLOCK_REALTIME."""
    return replace(result, wall_clock_offset_ns=TIME_NS - result.timestamp_ns)


def tracked(count: int) -> Detections:
    found = detections_result(0).detections
    pick = np.arange(count) % len(found)
    return replace(
        found,
        xyxy=found.xyxy[pick] + np.float32(0.1),
        confidence=found.confidence[pick],
        class_id=found.class_id[pick],
        class_names=("cat", "ein Hündchen"),
        track_id=np.arange(count, dtype=np.int32) - 1,
    )


def every_message(calibration: Path) -> list[tuple[str, dict[str, Any]]]:
    picture = picture_result(3).picture
    frame = detections_result(2, raw=True).raw
    assert frame is not None
    info = {"header": messages.header(TIME_NS, "c"), **load_camera_info(calibration)}
    return [
        (messages.IMAGE, messages.image(picture, TIME_NS, "camera_optical")),
        (messages.COMPRESSED, messages.compressed_image(picture, TIME_NS, "c")),
        (messages.IMAGE, messages.bayer_image(frame, TIME_NS, "")),
        *((messages.DETECTIONS, messages.detections(tracked(n), TIME_NS, "frame"[:n])) for n in range(4)),
        (messages.CAMERA_INFO, info),
        (
            messages.DIAGNOSTICS,
            messages.diagnostics(TIME_NS, "n", "imx219", messages.WARN, "lost", {"a": 1, "bcd": "e", "f": 2.5}),
        ),
    ]


def test_every_message_is_the_reference_byte_for_byte(calibration: Path) -> None:
    for msgtype, message in every_message(calibration):
        written = serialise(msgtype, message)
        assert written == cdr.encode(msgtype, message), msgtype
        read = typestore().deserialize_cdr(written, msgtype)
        assert bytes(typestore().serialize_cdr(read, msgtype)) == written


def test_stamps_are_exact() -> None:
    for time_ns in (0, 999_999_999, TIME_NS, (2**31 - 1) * 10**9 + 999_999_999):
        stamp = messages.stamp(time_ns)
        assert stamp["sec"] * 10**9 + stamp["nanosec"] == time_ns
        assert 0 <= stamp["nanosec"] < 10**9
    for time_ns in (-1, 2**31 * 10**9):
        with pytest.raises(SinkError, match="stamp"):
            messages.stamp(time_ns)


@pytest.mark.parametrize("cfa", list(Cfa))
@pytest.mark.parametrize(
    ("bit_depth", "packing"),
    [(8, Packing.U8), (10, Packing.CSI2P), (12, Packing.CSI2P), (10, Packing.U16), (14, Packing.U16_LEFT)],
)
def test_bayer_mosaics_as_image_proc_takes_them(cfa: Cfa, bit_depth: int, packing: Packing) -> None:
    layout = RawFormat(8, 4, cfa, bit_depth, packing, stride=32)
    data = np.random.default_rng(1).integers(0, 256, (4, 32), np.uint8)
    if packing == Packing.U16:
        data.view("<u2")[:] &= (1 << bit_depth) - 1
    frame = RawFrame(data, layout, "c", 0, 0, (0.0,) * 4, float(2**bit_depth - 1))
    message = messages.bayer_image(frame, TIME_NS, "c")
    bits = 8 if bit_depth == 8 else 16
    assert message["encoding"] == f"bayer_{cfa.lower()}{bits}"
    assert (message["height"], message["width"], message["step"]) == (4, 8, bits)
    codes = message["data"].view("<u2" if bits == 16 else np.uint8).reshape(4, 8)
    from edge_isp.kernels.unpack import unpack

    assert np.array_equal(codes >> (bits - bit_depth), unpack(frame.data, layout.layout))
    assert message["data"].dtype == np.uint8


def test_the_jpeg_is_the_picture() -> None:
    picture = picture_result(1).picture
    data = messages.compressed_image(picture, TIME_NS, "c")["data"].tobytes()
    assert np.abs(np.asarray(Image.open(io.BytesIO(data)), int) - picture.rgb).mean() < 4


# Bags


def test_the_bag_sink_conforms(tmp_path: Path) -> None:
    folders = iter(range(100))
    check_sink(lambda: RosbagSink(tmp_path / str(next(folders))), spec=None)
    RosbagSink(tmp_path / "bag").close()
    with pytest.raises(SinkError, match="bag"):
        RosbagSink(tmp_path / "bag")  # nothing is overwritten
    with pytest.raises(SinkError, match="topic must begin"):
        RosbagSink(tmp_path / "other", topic="camera")
    assert not (tmp_path / "other").exists()


def test_a_bag_plays_in_rosbags_reader(tmp_path: Path, calibration: Path) -> None:
    sink = RosbagSink(tmp_path / "bag", raw=True, camera_info=calibration, frame_id="optical")
    results = [stamped(detections_result(number, raw=True)) for number in range(4)]
    results.append(stamped(picture_result(4, raw=True)))
    for result in results:
        sink.write(result)
    sink.close()
    (storage,) = (tmp_path / "bag").glob("*.mcap")
    assert b"ros2" in storage.read_bytes()[:64]  # the profile
    with Reader(tmp_path / "bag") as reader:
        assert {c.topic: c.msgtype for c in reader.connections} == {
            "/camera/detections": messages.DETECTIONS,
            "/camera/image/compressed": messages.COMPRESSED,
            "/camera/image_raw": messages.IMAGE,
            "/camera/camera_info": messages.CAMERA_INFO,
        }
        assert reader.message_count == 15
        for connection, time_ns, _ in reader.messages():
            assert time_ns == TIME_NS
            assert connection.digest.startswith("RIHS01_")
    # The definitions are in the file: one who knows nothing of vision_msgs reads them.
    with AnyReader([tmp_path / "bag"]) as reader:
        found = [
            reader.deserialize(data, c.msgtype) for c, _, data in reader.messages() if c.topic == "/camera/detections"
        ]
    assert [len(message.detections) for message in found] == [2, 0, 2, 0]
    first = found[0].detections[0]
    assert first.results[0].hypothesis.class_id == "dog"
    assert (first.header.stamp.sec, first.header.stamp.nanosec) == divmod(TIME_NS, 10**9)
    assert first.header.frame_id == "optical"


# Calibrations


def test_calibrations_of_camera_info_manager(calibration: Path) -> None:
    info = load_camera_info(calibration)
    assert (info["width"], info["height"], info["distortion_model"]) == (64, 48, "plumb_bob")
    assert info["d"] == [0.1, -0.2, 0.001, 0.002, 0.0]
    assert info["k"][:3] == [50.5, 0, 32]
    assert len(info["p"]) == 12


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image_width: 64", "image_width: wide", "image_width must be"),
        ("image_width: 64", "image_width: true", "image_width must be"),
        ("plumb_bob", "fisheye", "distortion_model must be one of"),
        ("data: [50.5, 0,", "data: [", "camera_matrix must have 'data' with 9"),
        ("[50.5,", "[.nan,", "camera_matrix must have"),
        ("  data: [0.1, -0.2, 0.001, 0.002, 0.0]", "  data: 5", "distortion_coefficients must have 'data' with 4 or 5"),
        ("projection_matrix", "projection", "projection_matrix must have"),
        ("image_height: 48", "image_height: [", "is not YAML"),
        ("image_width: 64", "!!python/object/apply:os.system ['true']", "is not YAML"),
        ("plumb_bob", "[plumb_bob]", "distortion_model must be one of .* found list"),
        ("plumb_bob", "{a: b}", "distortion_model must be one of .* found dict"),
        ("image_width: 64", f"image_width: 0x{'f' * 5000}", "image_width must be"),
        ("plumb_bob", f"0x{'f' * 5000}", "distortion_model must be one of"),
        ("[50.5,", f"[1{'0' * 400},", "camera_matrix must have"),
        ("image_width: 64", "image_width: !!bool maybe", "is not YAML"),
        ("image_width: 64", "image_width: !!int ''", "is not YAML"),
        ("image_width: 64", "image_width: !!timestamp now", "is not YAML"),
    ],
)
def test_other_files_are_refused(calibration: Path, old: str, new: str, message: str) -> None:
    assert old in CALIBRATION
    calibration.write_text(CALIBRATION.replace(old, new))
    with pytest.raises(CalibrationError, match=message):
        load_camera_info(calibration)


def test_nothing_imports_ros_unless_asked() -> None:
    """In a process of its own, where both packages would be errors."""
    code = (
        "import sys; sys.modules['rclpy'] = sys.modules['rosbags'] = None; import edge_isp\n"
        "from edge_isp.cli.main import app\n"
        "for name in edge_isp.__all__: getattr(edge_isp, name) if 'Mcap' not in name else None\n"
        "import edge_isp.ros.messages\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
