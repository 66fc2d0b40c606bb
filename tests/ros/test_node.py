"""The node of ROS 2 on a stand-in of rclpy, which is not ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rosbags.rosbag2 import Reader
from typer.testing import CliRunner

from edge_isp.errors import CameraDisconnectedError, MissingDependencyError, SinkError
from edge_isp.sinks.rosbag import RosbagSink
from tests.ros import stand_in_rclpy
from tests.ros.test_messages import CALIBRATION

WAIT_S = 20.0


@pytest.fixture
def make_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    from PIL import Image

    stand_in_rclpy.install(monkeypatch)
    Image.radial_gradient("L").convert("RGB").resize((512, 512)).save(tmp_path / "photo.png")
    camera = f"synthetic:{tmp_path}/photo.png,fps=20,width=64,height=64"
    nodes = []

    def make(**parameters: Any) -> Any:
        from edge_isp.ros_node.node import CameraNode

        node = CameraNode(**{"camera": camera, "model": "rfdcsanet-s", "recordings": str(tmp_path / "r"), **parameters})
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.trigger_shutdown()


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def succeeds(done: Any) -> bool:
    return bool(done.name == "SUCCESS")


def test_the_life_of_a_node_with_pictures(make_node: Any, tmp_path: Path) -> None:
    (tmp_path / "camera.yaml").write_text(CALIBRATION.replace("48", "64"))
    node = make_node(camera_info=str(tmp_path / "camera.yaml"), raw=True, frame_id="optical")
    node.get_clock().offset_ns = -(10**18)  # ROS's clock is not that of the system
    assert succeeds(node.trigger_configure())
    topics = node.publishers_made
    assert set(topics) == {"~/image", "~/image/compressed", "~/image_raw", "~/camera_info", "/diagnostics"}
    assert topics["~/image"].qos == "sensor data"
    assert not topics["~/image"].messages
    topics["~/image/compressed"].subscribers = 0
    assert succeeds(node.trigger_activate())
    wait(lambda: len(topics["~/camera_info"].messages) >= 3 and topics["/diagnostics"].messages)
    assert not topics["~/image/compressed"].messages  # nobody listens
    before_ns = time.time_ns()
    assert succeeds(node.trigger_deactivate())
    for messages in zip(*(topics[t].messages[:3] for t in ("~/image", "~/image_raw", "~/camera_info")), strict=True):
        stamps = {(m.header.stamp.sec, m.header.stamp.nanosec, m.header.frame_id) for m in messages}
        ((sec, nanosec, frame_id),) = stamps
        assert frame_id == "optical"
        age_ns = before_ns - 10**18 - sec * 10**9 - nanosec
        assert 0 < age_ns < WAIT_S * 1e9
    assert topics["~/image_raw"].messages[0].encoding == "bayer_rggb16"
    assert topics["~/image"].messages[0].encoding == "rgb8"
    count = len(topics["~/image"].messages)
    assert succeeds(node.trigger_activate())  # again
    wait(lambda: len(topics["~/image"].messages) > count)
    (status,) = topics["/diagnostics"].messages[-1].status
    values = {v.key: v.value for v in status.values}
    assert {"state", "frames", "delivered", "delegate"} <= values.keys()
    assert succeeds(node.trigger_deactivate())
    assert succeeds(node.trigger_cleanup())
    assert not node.publishers_made
    assert not [t for t in threading.enumerate() if t.name.startswith("edge_isp publisher")]


def test_stamps_on_the_clock_of_ros(make_node: Any) -> None:
    """Within 0.1 ms of the sensor's, over the same conversion as everywhere."""
    node = make_node()
    node.get_clock().offset_ns = 7_000_000_000
    assert succeeds(node.trigger_configure())
    seen: list[tuple[int, int]] = []
    publish = node._publish

    def note(result: Any) -> None:
        expected = result.timestamp_ns + time.time_ns() - time.monotonic_ns() + 7_000_000_000
        publish(result)
        stamp = node.publishers_made["~/image"].messages[-1].header.stamp
        seen.append((stamp.sec * 10**9 + stamp.nanosec, expected))

    node._publish = note
    assert succeeds(node.trigger_activate())
    wait(lambda: len(seen) >= 5)
    assert succeeds(node.trigger_deactivate())
    # Two readings of clocks may be interrupted: the best of five is not.
    assert min(abs(found - expected) for found, expected in seen) < 100_000


def test_detections_and_names(make_node: Any, tmp_path: Path) -> None:
    camera = f"synthetic:{tmp_path}/photo.png,fps=5,width=448,height=448"
    node = make_node(model="raw-detector", qos="reliable", camera=camera)
    assert succeeds(node.trigger_configure())
    assert "person" in node.get_parameter("class_names").value
    assert node.publishers_made["~/detections"].qos.depth == 10
    assert succeeds(node.trigger_activate())
    wait(lambda: node.publishers_made["~/detections"].messages or node.get_logger().errors)
    assert not node.get_logger().errors


def test_services_and_settings(make_node: Any, tmp_path: Path) -> None:
    node = make_node(raw=True)
    assert not node.call("~/auto_exposure", True).success  # no camera yet
    assert succeeds(node.trigger_configure())
    assert succeeds(node.trigger_activate())
    assert node.set_parameters({"exposure_ns": 5_000_000, "analogue_gain": 2.0}).successful
    refused = node.set_parameters({"exposure_ns": 10**12})
    assert not refused.successful
    assert "exposure_ns must be from" in refused.reason
    assert node.call("~/record", False).message == "nothing is recorded"
    started = node.call("~/record", True)
    assert started.success
    assert node.call("~/record", True).message == started.message  # it is recorded already
    count = len(node.publishers_made["~/image"].messages)
    wait(lambda: len(node.publishers_made["~/image"].messages) > count + 3)
    assert node.call("~/record", False).message == started.message
    with Reader(started.message) as reader:
        assert reader.message_count >= 4
        assert {c.topic for c in reader.connections} == {"/edge_isp/image/compressed", "/edge_isp/image_raw"}
    answer = node.call("~/auto_exposure", True)
    assert not answer.success  # this camera has none of its own
    assert "auto_exposure cannot be set" in answer.message


def statuses(node: Any) -> list[Any]:
    """The diagnostics that were published."""
    return [message.status[0] for message in node.publishers_made["/diagnostics"].messages]


@pytest.mark.parametrize("fails", ["write", "close"])
def test_a_recording_that_fails_ends_and_the_node_goes_on(
    make_node: Any, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    node = make_node()
    assert succeeds(node.trigger_configure())
    assert succeeds(node.trigger_activate())
    assert node.call("~/record", True).success
    closed = []
    really_close = RosbagSink.close

    def fail(sink: RosbagSink, *_: object) -> None:
        raise SinkError("no space left on device")

    def close(sink: RosbagSink) -> None:
        closed.append(sink)
        really_close(sink)
        if fails == "close":
            fail(sink)

    monkeypatch.setattr(RosbagSink, "close", close)
    if fails == "write":
        monkeypatch.setattr(RosbagSink, "write", fail)
        wait(lambda: closed)
        messages = node.publishers_made["~/image"].messages
        count = len(messages)
        wait(lambda: len(messages) > count + 2)
        assert node.call("~/record", False).message == "nothing is recorded"
    assert succeeds(node.trigger_shutdown())
    assert len(closed) == 1
    assert any("no space left on device" in error for error in node.get_logger().errors)
    assert not node.publishers_made
    assert not [thread.name for thread in threading.enumerate() if "camera" in thread.name]


def test_diagnostics_come_before_results_and_say_that_the_stream_has_failed(
    make_node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node()
    assert succeeds(node.trigger_configure())
    wait(lambda: len(statuses(node)) > 1)  # nothing was read yet

    def fail(*_: object) -> None:
        raise RuntimeError("a broken network")

    node._publish = fail
    assert succeeds(node.trigger_activate())
    wait(lambda: statuses(node)[-1].level == b"\x02")
    assert statuses(node)[-1].message == "a broken network"
    assert any("a broken network" in error for error in node.get_logger().errors)


def test_a_warning_ends_when_no_more_frames_are_lost(make_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node(max_fps=1)
    assert succeeds(node.trigger_configure())
    dropped: dict[str, int] = {"too slow": 2}
    counts = SimpleNamespace(frames=9, delivered=7, dropped=dropped)
    monkeypatch.setattr(type(node._pipeline), "counts", property(lambda pipeline: counts))
    wait(lambda: [s.level for s in statuses(node)][-2:] == [b"\x01", b"\x00"])
    assert [s.message for s in statuses(node) if s.level == b"\x01"] == ["2 frames dropped"]
    dropped["too slow"] = 5
    wait(lambda: [s.message for s in statuses(node) if s.level == b"\x01"] == ["2 frames dropped", "3 frames dropped"])
    values = {v.key: v.value for v in statuses(node)[-1].values}
    assert values["dropped: too slow"] == "5"


def test_settings_of_the_launch_file_and_by_hand_outlive_the_camera(
    make_node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(raw=True, exposure_ns=7_000_000)
    assert succeeds(node.trigger_configure())
    assert node.set_parameters({"analogue_gain": 2.0}).successful  # before there is a camera
    taken: list[tuple[int, float]] = []
    node._publish = lambda result: taken.append((result.raw.exposure_ns, result.raw.analogue_gain))
    assert succeeds(node.trigger_activate())
    wait(lambda: taken[-1:] == [(7_000_000, 2.0)])
    assert node.set_parameters({"exposure_ns": 5_000_000}).successful
    wait(lambda: taken[-1:] == [(5_000_000, 2.0)])
    first = node._pipeline.camera
    monkeypatch.setattr(first, "read", gone)
    wait(lambda: node._pipeline.camera not in (None, first))
    taken.clear()
    wait(lambda: taken)
    wait(lambda: taken[-1] == (5_000_000, 2.0))
    assert succeeds(node.trigger_deactivate())
    assert node.set_parameters({"exposure_ns": 10**12}).successful
    assert not succeeds(node.trigger_activate())
    assert "exposure_ns must be from" in node.get_logger().errors[-1]


def gone(timeout_s: float | None = None) -> None:
    raise CameraDisconnectedError("unplugged")


def test_a_mosaic_is_made_only_for_those_who_listen(make_node: Any) -> None:
    node = make_node(raw=True)
    assert succeeds(node.trigger_configure())
    node.publishers_made["~/image_raw"].subscribers = 0
    assert succeeds(node.trigger_activate())
    wait(lambda: len(node.publishers_made["~/image"].messages) > 2)
    assert not node.publishers_made["~/image_raw"].messages


def test_what_is_wrong_is_said_and_the_node_stays(make_node: Any) -> None:
    for parameters, text in (
        ({"model": "no-such-model"}, "no-such-model"),
        ({"qos": "best"}, "qos must be"),
        ({"camera_info": "nowhere.yaml"}, "nowhere.yaml"),
    ):
        node = make_node(**parameters)
        assert not succeeds(node.trigger_configure())
        assert text in node.get_logger().errors[-1]
        assert not node.publishers_made
    node = make_node(camera="synthetic:nowhere.png")
    assert succeeds(node.trigger_configure())
    assert not succeeds(node.trigger_activate())
    assert "nowhere.png" in node.get_logger().errors[-1]


def test_the_command_runs_the_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PIL import Image

    from edge_isp.cli.main import app

    Image.new("RGB", (96, 96)).save(tmp_path / "photo.png")
    seen = []

    def spin(node: Any) -> None:
        assert node.state == "active"
        wait(lambda: node.publishers_made["~/image"].messages)
        seen.append(node)

    stand_in_rclpy.install(monkeypatch, spin)
    camera = f"synthetic:{tmp_path}/photo.png,fps=20,width=64,height=64"
    arguments = ["ros", "--camera", camera, "--model", "rfdcsanet-s", "--name", "eye"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    (node,) = seen
    assert (node.get_name(), node.state) == ("eye", "destroyed")


def test_without_ros_the_command_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from edge_isp.cli.main import app

    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(MissingDependencyError, match="source the setup file"):
        CliRunner().invoke(app, ["ros"], catch_exceptions=False)
