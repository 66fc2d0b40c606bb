"""Results to a bag of ROS 2: rosbag2 with MCAP."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError

from edge_isp.errors import SinkError
from edge_isp.results import Detections, FrameResult
from edge_isp.ros.camera_info import load_camera_info
from edge_isp.ros.definitions import serialise, typestore
from edge_isp.ros.messages import CAMERA_INFO, IMAGE, bayer_image, header, result_message

_log = logging.getLogger(__name__)

_METADATA_VERSION = 9


class RosbagSink:
    """Writes results as messages of ROS 2 into a new bag, `rosbag:FOLDER` (extra `ros`): `ros2 bag play FOLDER`.

    Below TOPIC there are `detections` (`vision_msgs/Detection2DArray`), `image/compressed` or `image`
    (`sensor_msgs/CompressedImage`, `Image`), with a calibration `camera_info`, and with `raw=yes` `image_raw`, the
    Bayer mosaic. Stamps are the start of exposure on CLOCK_REALTIME. The bag is MCAP of the profile ros2, with its
    `metadata.yaml` when it is closed; after a kill `ros2 bag reindex` makes that.

    Args:
        folder: of the bag; must not exist.
        topic: of the camera.
        frame_id: the camera's coordinate frame.
        pictures: how pictures are written.
        raw: whether to write the RAW frames.
        camera_info: path of a calibration file of camera_info_manager.

    Attributes:
        needs_raw: see `Sink`.

    Raises:
        CalibrationError: the calibration cannot be read.
        SinkError: the folder exists, or cannot be made.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        topic: str = "/camera",
        frame_id: str = "camera",
        pictures: Literal["compressed", "rgb8"] = "compressed",
        raw: bool = False,
        camera_info: str | Path | None = None,
    ) -> None:
        self.folder, self.needs_raw = Path(folder), raw
        self._topic, self._frame_id, self._compressed = topic.rstrip("/"), frame_id, pictures == "compressed"
        self._camera_info = None if camera_info is None else load_camera_info(camera_info)
        self._connections: dict[str, Any] = {}
        self._closed = False
        if not topic.startswith("/"):
            raise SinkError(f"topic must begin with '/', found '{topic}'")
        try:
            self._writer = Writer(self.folder, version=_METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except WriterError as error:
            raise SinkError(f"{self.folder}: {error}") from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = getattr(error, "strerror", None) or error
            raise SinkError(f"{self.folder}: no bag can be written there: {reason}") from error

    def write(self, result: FrameResult) -> None:
        """Writes a result.

        Args:
            result: with `raw`, if RAW frames are wanted.

        Raises:
            SinkError: it cannot be written, or the sink is closed.
        """
        if self._closed:
            raise SinkError(f"{self.folder}: the sink is closed")
        time_ns = result.timestamp_realtime_ns
        msgtype, message = result_message(result, self._frame_id, compressed=self._compressed)
        name = "image/compressed" if self._compressed else "image"
        if isinstance(result.result, Detections):
            name = "detections"
        self._put(name, msgtype, time_ns, message)
        if result.raw is not None:
            self._put("image_raw", IMAGE, time_ns, bayer_image(result.raw, time_ns, self._frame_id))
        if self._camera_info is not None:
            info = {"header": header(time_ns, self._frame_id), **self._camera_info}
            self._put("camera_info", CAMERA_INFO, time_ns, info)

    def close(self) -> None:
        """Completes the bag. Idempotent.

        Raises:
            SinkError: it cannot be completed.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._writer.close()
        except OSError as error:
            raise SinkError(f"{self.folder}: the bag cannot be completed: {error.strerror or error}") from error

    def _put(self, name: str, msgtype: str, time_ns: int, message: dict[str, Any]) -> None:
        try:
            if name not in self._connections:
                self._connections[name] = self._writer.add_connection(
                    f"{self._topic}/{name}", msgtype, typestore=typestore()
                )
            self._writer.write(self._connections[name], time_ns, serialise(msgtype, message))
        except OSError as error:
            raise SinkError(f"{self.folder}: cannot be written: {error.strerror or error}") from error
