"""A managed node of ROS 2 (lifecycle): a camera's pictures or detections on topics, settings as parameters."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from std_srvs.srv import SetBool

from edge_isp.board import Board
from edge_isp.cameras.base import Controls
from edge_isp.cameras.spec import open_camera
from edge_isp.errors import EdgeIspError, SinkError
from edge_isp.models.card import find_model
from edge_isp.pipeline import FrameResult, ModelOptions, Pipeline, PipelineState, StreamOptions
from edge_isp.ros.camera_info import load_camera_info
from edge_isp.ros.messages import (
    CAMERA_INFO,
    COMPRESSED,
    DETECTIONS,
    DIAGNOSTICS,
    ERROR,
    IMAGE,
    OK,
    STALE,
    WARN,
    bayer_image,
    compressed_image,
    detections,
    diagnostics,
    fill,
    header,
    image,
    message_class,
)
from edge_isp.sinks.image_files import session_name
from edge_isp.sinks.rosbag import RosbagSink
from edge_isp.wall_clock import WallClock

_DIAGNOSTICS_PERIOD_S = 1.0
_RELIABLE_DEPTH = 10

PARAMETERS: dict[str, Any] = {
    "camera": "",
    "model": "raw-detector",
    "frame_id": "camera",
    "qos": "sensor_data",
    "camera_info": "",
    "raw": False,
    "max_age_s": 0.0,
    "max_fps": 0.0,
    "recordings": "recordings",
    "exposure_ns": 0,
    "analogue_gain": 0.0,
}


class CameraNode(LifecycleNode):
    """Publishes a camera's results below its own name:

    - `detections` (`vision_msgs/Detection2DArray`), or `image` and `image/compressed`, as the model is;
    - `image_raw` with the parameter `raw`: the Bayer mosaic, which image_proc takes together with `camera_info`;
    - `camera_info`, with the parameter `camera_info`: the path of a file of camera_info_manager;
    - `/diagnostics` once a second.

    Services: `record` and `auto_exposure` (`std_srvs/SetBool`). The parameters `exposure_ns` and `analogue_gain` set
    the camera while it runs; all others are read by `configure`. Stamps are the start of exposure on the node's clock.

    Args:
        name: of the node.
        **parameters: values in the place of the defaults of `PARAMETERS`.
    """

    def __init__(self, name: str = "edge_isp", **parameters: Any) -> None:
        super().__init__(name)
        for parameter, default in (PARAMETERS | parameters).items():
            self.declare_parameter(parameter, default)
        self.declare_parameter("class_names", [""])
        self._pipeline: Pipeline | None = None
        self._camera_info: dict[str, Any] | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # of the recording
        self._recording: RosbagSink | None = None
        self._topics: dict[str, Any] = {}
        self._newest: FrameResult | None = None
        self._frame_id = ""
        self.add_on_set_parameters_callback(self._set_camera)
        self.create_service(SetBool, "~/record", self._record)
        self.create_service(SetBool, "~/auto_exposure", self._auto_exposure)

    def on_configure(self, state: Any) -> Any:
        """Reads the parameters, loads the model's card and makes the topics.

        Args:
            state: before.
        """
        try:
            self._configure()
        except EdgeIspError as error:
            self.get_logger().error(str(error))
            self._close()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: Any) -> Any:
        """Opens the camera and publishes.

        Args:
            state: before.
        """
        assert self._pipeline is not None
        super().on_activate(state)
        try:
            self._pipeline.start()
        except EdgeIspError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self._thread = threading.Thread(target=self._publish_all, name="edge_isp publisher", daemon=True)
        self._thread.start()
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: Any) -> Any:
        """Closes the camera; the model stays loaded.

        Args:
            state: before.
        """
        self._stop()
        super().on_deactivate(state)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: Any) -> Any:
        """Closes everything, so that other parameters can be read.

        Args:
            state: before.
        """
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: Any) -> Any:
        """Closes everything.

        Args:
            state: before.
        """
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _configure(self) -> None:
        model, qos = self._value("model"), self._value("qos")
        if qos not in ("sensor_data", "reliable"):
            raise SinkError(f"qos must be 'sensor_data' or 'reliable', found '{qos}'")
        profile = qos_profile_sensor_data if qos == "sensor_data" else QoSProfile(depth=_RELIABLE_DEPTH)
        self._frame_id = self._value("frame_id")
        self._camera_info = load_camera_info(self._value("camera_info")) if self._value("camera_info") else None
        card = find_model(model, None)
        self.set_parameters_of_model(list(card.classes))
        self._pipeline = Pipeline(
            partial(open_camera, self._value("camera") or None),
            ModelOptions(model),
            StreamOptions(
                keep_raw=self._value("raw"),
                max_age_s=self._value("max_age_s") or None,
                max_fps=self._value("max_fps") or None,
                wall_clock=WallClock(lambda: self.get_clock().now().nanoseconds),
            ),
        )
        topics = (
            {"detections": DETECTIONS} if card.task == "detector" else {"image": IMAGE, "image/compressed": COMPRESSED}
        )
        if self._value("raw"):
            topics["image_raw"] = IMAGE
        if self._camera_info is not None:
            topics["camera_info"] = CAMERA_INFO
        for name, msgtype in topics.items():
            kind = message_class(msgtype)
            self._topics[name] = (kind, self.create_lifecycle_publisher(kind, f"~/{name}", profile))
        kind = message_class(DIAGNOSTICS)
        self._topics["/diagnostics"] = (kind, self.create_publisher(kind, "/diagnostics", _RELIABLE_DEPTH))

    def set_parameters_of_model(self, class_names: list[str]) -> None:
        """Shows the names of the model's classes, in the order of their numbers, as the parameter `class_names`.

        Args:
            class_names: of the model; none where it makes pictures.
        """
        self.undeclare_parameter("class_names")
        self.declare_parameter("class_names", class_names or [""])

    def _publish_all(self) -> None:
        """In a thread of its own, until the stream ends."""
        assert self._pipeline is not None
        said_s = 0.0
        try:
            for result in self._pipeline:
                self._newest = result
                self._publish(result)
                if time.monotonic() - said_s >= _DIAGNOSTICS_PERIOD_S:
                    said_s = time.monotonic()
                    self._publish_diagnostics()
        except Exception as error:  # noqa: BLE001 - a thread has nobody else to say it to
            self.get_logger().error(f"{type(error).__name__}: {error}")
        self._publish_diagnostics()

    def _publish(self, result: FrameResult) -> None:
        time_ns, frame_id = result.timestamp_realtime_ns, self._frame_id
        if "detections" in self._topics:
            self._send("detections", detections(result.detections, time_ns, frame_id))
        for name, convert in (("image", image), ("image/compressed", compressed_image)):
            # To compress, or copy, what nobody listens to costs time.
            if name in self._topics and self._topics[name][1].get_subscription_count():
                self._send(name, convert(result.picture, time_ns, frame_id))
        if "image_raw" in self._topics and result.raw is not None:
            self._send("image_raw", bayer_image(result.raw, time_ns, frame_id))
        if self._camera_info is not None:
            self._send("camera_info", {"header": header(time_ns, frame_id), **self._camera_info})
        with self._lock:
            if self._recording is not None:
                self._recording.write(result)

    def _send(self, name: str, content: dict[str, Any]) -> None:
        kind, publisher = self._topics[name]
        publisher.publish(fill(kind(), content))

    def _publish_diagnostics(self) -> None:
        pipeline, newest = self._pipeline, self._newest
        if pipeline is None or "/diagnostics" not in self._topics:
            return
        counts, report, state = pipeline.counts, pipeline.report, pipeline.state
        lost = sum(counts.dropped.values())
        level = {PipelineState.FAILED: ERROR, PipelineState.STALLED: STALE, PipelineState.RECOVERING: WARN}.get(
            state, OK
        )
        if level == OK and lost:
            level = WARN
        values: dict[str, object] = {"state": state, "frames": counts.frames, "delivered": counts.delivered}
        values |= {f"dropped: {reason}": frames for reason, frames in counts.dropped.items()}
        if newest is not None:
            values["age_ms"] = round(newest.age_ns / 1e6, 1)
        if report is not None:
            values["delegate"] = report.delegate
        values |= {f"temperature_c: {name}": degrees for name, degrees in Board().temperatures_c().items()}
        message = str(pipeline.error or (f"{lost} frames dropped" if lost else state))
        now_ns = self.get_clock().now().nanoseconds
        device = newest.source if newest is not None else self._value("camera")
        self._send("/diagnostics", diagnostics(now_ns, self.get_name(), device, level, message, values))

    def _set_camera(self, parameters: list[Any]) -> Any:
        """New values of parameters; those of the camera are set at once."""
        controls = {p.name: p.value for p in parameters if p.name in ("exposure_ns", "analogue_gain") and p.value}
        return self._controlled(SetParametersResult(), "successful", "reason", Controls(**controls))

    def _auto_exposure(self, request: Any, response: Any) -> Any:
        return self._controlled(response, "success", "message", Controls(auto_exposure=request.data))

    def _controlled(self, answer: Any, succeeded: str, why: str, controls: Controls) -> Any:
        """Sets the camera, where it is open, and answers."""
        camera = None if self._pipeline is None else self._pipeline.camera
        problem = ""
        if controls.names():
            try:
                if camera is None:
                    raise SinkError("the camera is not open: activate the node")
                camera.control(controls)
            except EdgeIspError as error:
                problem = str(error)
        setattr(answer, succeeded, not problem)
        setattr(answer, why, problem)
        return answer

    def _record(self, request: Any, response: Any) -> Any:
        """Begins or ends a recording: a bag in the folder of the parameter `recordings`."""
        try:
            response.message = self._switch_recording(on=request.data)
            response.success = True
        except EdgeIspError as error:
            response.success, response.message = False, str(error)
        return response

    def _switch_recording(self, *, on: bool) -> str:
        with self._lock:
            recording = self._recording
            if not on:
                if recording is None:
                    return "nothing is recorded"
                self._recording = None
                recording.close()
                return str(recording.folder)
            if recording is None:
                folder = Path(self._value("recordings"))
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise SinkError(f"{folder}: cannot be made: {error.strerror}") from error
                recording = self._recording = RosbagSink(
                    folder / session_name(datetime.now(UTC)),
                    topic=f"/{self.get_name()}",
                    frame_id=self._frame_id,
                    raw=self._value("raw"),
                    camera_info=self._value("camera_info") or None,
                )
            return str(recording.folder)

    def _stop(self) -> None:
        if self._pipeline is not None:
            self._pipeline.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._switch_recording(on=False)

    def _close(self) -> None:
        self._stop()
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None
        for _, publisher in self._topics.values():
            self.destroy_publisher(publisher)
        self._topics, self._newest = {}, None
