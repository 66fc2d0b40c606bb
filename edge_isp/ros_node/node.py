"""A managed node of ROS 2 (lifecycle): a camera's pictures or detections on topics, settings as parameters."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from std_srvs.srv import SetBool

from edge_isp.board import Board
from edge_isp.cameras.base import Camera, Controls, with_controls
from edge_isp.cameras.spec import open_camera
from edge_isp.errors import EdgeIspError, SinkError
from edge_isp.models.card import find_model
from edge_isp.pipeline import Event, FrameResult, ModelOptions, Pipeline, PipelineState, StateChange, StreamOptions
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
    the camera whenever it is opened and while it runs; all others are read by `configure`. Stamps are the start of
    exposure on the node's clock.

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
        self._auto_exposure: bool | None = None  # as it was asked for last, after any setting by hand
        self._active = False
        self._timer: Any = None
        self._lost = 0  # frames, when diagnostics were published last
        self._lock = threading.Lock()  # of the recording
        self._recording: RosbagSink | None = None
        self._topics: dict[str, Any] = {}
        self._newest: FrameResult | None = None
        self._frame_id = ""
        self.add_on_set_parameters_callback(self._set_camera)
        self.create_service(SetBool, "~/record", self._record)
        self.create_service(SetBool, "~/auto_exposure", self._set_auto_exposure)

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
        self._active = True
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
            self._open,
            ModelOptions(model),
            StreamOptions(
                keep_raw=self._value("raw"),
                max_age_s=self._value("max_age_s") or None,
                max_fps=self._value("max_fps") or None,
                callback=self._deliver,
                on_event=self._note,
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
        self._timer = self.create_timer(_DIAGNOSTICS_PERIOD_S, self._publish_diagnostics)

    def set_parameters_of_model(self, class_names: list[str]) -> None:
        """Shows the names of the model's classes, in the order of their numbers, as the parameter `class_names`.

        Args:
            class_names: of the model; none where it makes pictures.
        """
        self.undeclare_parameter("class_names")
        self.declare_parameter("class_names", class_names or [""])

    def _open(self) -> Camera:
        """Opens the camera, with the settings that it had before, or that the launch file gives it."""
        camera = open_camera(self._value("camera") or None)
        by_hand = Controls(
            exposure_ns=self._value("exposure_ns") or None, analogue_gain=self._value("analogue_gain") or None
        )
        return with_controls(camera, by_hand.then(Controls(auto_exposure=self._auto_exposure)))

    def _note(self, event: Event) -> None:
        """In threads of the pipeline."""
        if isinstance(event, StateChange) and event.state is PipelineState.FAILED:
            self.get_logger().error(event.reason)

    def _deliver(self, result: FrameResult) -> None:
        """In a thread of the pipeline."""
        self._newest = result
        self._publish(result)

    def _publish(self, result: FrameResult) -> None:
        time_ns, frame_id = result.timestamp_realtime_ns, self._frame_id
        if "detections" in self._topics:
            self._send("detections", detections(result.detections, time_ns, frame_id))
        for name, convert in (("image", image), ("image/compressed", compressed_image)):
            if self._is_wanted(name):
                self._send(name, convert(result.picture, time_ns, frame_id))
        if result.raw is not None and self._is_wanted("image_raw"):
            self._send("image_raw", bayer_image(result.raw, time_ns, frame_id))
        if self._camera_info is not None:
            self._send("camera_info", {"header": header(time_ns, frame_id), **self._camera_info})
        with self._lock:
            if self._recording is not None:
                try:
                    self._recording.write(result)
                except EdgeIspError as error:  # of a full disk: the node goes on
                    self.get_logger().error(f"the recording has ended: {error}")
                    self._end_recording()

    def _is_wanted(self, name: str) -> bool:
        """Whether a topic is published and somebody listens: to convert, or compress, for nobody costs time."""
        return name in self._topics and self._topics[name][1].get_subscription_count() > 0

    def _end_recording(self) -> None:
        """Completes the recording, and logs why it cannot be; with the lock."""
        recording, self._recording = self._recording, None
        try:
            if recording is not None:
                recording.close()
        except EdgeIspError as error:
            self.get_logger().error(str(error))

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
        more, self._lost = lost - self._lost, lost
        if level == OK and more > 0:
            level = WARN
        values: dict[str, object] = {"state": state, "frames": counts.frames, "delivered": counts.delivered}
        values |= {f"dropped: {reason}": frames for reason, frames in counts.dropped.items()}
        if newest is not None:
            values["age_ms"] = round(newest.age_ns / 1e6, 1)
        if report is not None:
            values["delegate"] = report.delegate
        values |= {f"temperature_c: {name}": degrees for name, degrees in Board().temperatures_c().items()}
        message = str(pipeline.error or (f"{more} frames dropped" if more > 0 else state))
        now_ns = self.get_clock().now().nanoseconds
        device = newest.source if newest is not None else self._value("camera")
        self._send("/diagnostics", diagnostics(now_ns, self.get_name(), device, level, message, values))

    def _set_camera(self, parameters: list[Any]) -> Any:
        """New values of parameters; those of the camera are set at once, or when the node is activated."""
        controls = Controls(
            **{p.name: p.value for p in parameters if p.name in ("exposure_ns", "analogue_gain") and p.value}
        )
        answer = SetParametersResult()
        if not controls.names():
            return answer
        if self._active:
            self._control(answer, "successful", "reason", controls)
        if answer.successful:
            self._auto_exposure = None
        return answer

    def _set_auto_exposure(self, request: Any, response: Any) -> Any:
        """Switches the camera's own automatic exposure on, or locks it."""
        self._control(response, "success", "message", Controls(auto_exposure=request.data))
        if response.success:
            self._auto_exposure = request.data
        return response

    def _control(self, answer: Any, succeeded: str, why: str, controls: Controls) -> None:
        """Sets the camera, where it is open, and answers."""
        camera = None if self._pipeline is None else self._pipeline.camera
        problem = ""
        try:
            if camera is None:
                raise SinkError("the camera is not open: activate the node")
            camera.control(controls)
        except EdgeIspError as error:
            problem = str(error)
        setattr(answer, succeeded, not problem)
        setattr(answer, why, problem)

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
        self._active = False
        if self._pipeline is not None:
            self._pipeline.stop()
        with self._lock:
            self._end_recording()

    def _close(self) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        self._stop()
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None
        for _, publisher in self._topics.values():
            self.destroy_publisher(publisher)
        self._topics, self._newest, self._lost, self._auto_exposure = {}, None, 0, None
