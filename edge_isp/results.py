"""What a user gets out of a frame."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.corrections import AppliedCorrections
from edge_isp.errors import MissingDependencyError, SinkError
from edge_isp.files import write_file
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.wall_clock import SYSTEM_WALL_CLOCK

# What a picture can be saved as, by the file's suffix: Pillow's name of the format, and its settings.
_FILE_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95}),
    ".jpeg": ("JPEG", {"quality": 95}),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture made from one RAW frame. A notebook shows it as what it is.

    Attributes:
        rgb: uint8 (height, width, 3), for screens of sRGB, upright; belongs to the holder of the picture.
        source: what delivered the frame, see `RawFrame`.
        sequence: number of the frame at its source, see `RawFrame`.
        timestamp_ns: of the frame, see `RawFrame`.
        applied: what was applied to the frame, and where it came from, as far as the task says it.
    """

    rgb: NDArray[np.uint8]
    source: str
    sequence: int
    timestamp_ns: int
    applied: AppliedCorrections | None = None

    @property
    def bgr(self) -> NDArray[np.uint8]:
        """A copy in OpenCV's order of channels: uint8 (height, width, 3), contiguous."""
        return np.ascontiguousarray(self.rgb[..., ::-1])

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the picture to a file, which appears under its name only when it is whole.

        Args:
            path: of the file; its suffix says the format: .png, .jpg or .jpeg.
            overwrite: whether a file of that name may be replaced.

        Returns:
            The path.

        Raises:
            SinkError: the suffix is none of these, a file of that name is there, or it cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in _FILE_FORMATS:
            raise SinkError(f"{path}: a picture's file must end in {', '.join(_FILE_FORMATS)}, found '{path.suffix}'")
        try:
            write_file(path, self._encoded(*_FILE_FORMATS[path.suffix.lower()]), overwrite=overwrite)
        except FileExistsError as error:
            raise SinkError(f"{path}: is there already; choose another name, or give overwrite=True") from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise SinkError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from error
        return path

    def png(self) -> bytes:
        """The content of a PNG file, lightly compressed."""
        return self._encoded("PNG", {"compress_level": 1})

    def jpeg(self, quality: int = 90) -> bytes:
        """The content of a JPEG file.

        Args:
            quality: 1 to 95.
        """
        return self._encoded("JPEG", {"quality": quality})

    def _repr_png_(self) -> bytes:
        """What IPython shows in a notebook."""
        return self.png()

    def _encoded(self, file_format: str, settings: dict[str, Any]) -> bytes:
        from PIL import Image

        written = io.BytesIO()
        Image.fromarray(self.rgb).save(written, format=file_format, **settings)
        return written.getvalue()


@dataclass(frozen=True, slots=True)
class ZoneCount:
    """The tracked objects of one zone, see `edge_isp.tracking`.

    Attributes:
        name: of the zone.
        present: number of objects that are in the zone in this frame.
        entered: number of objects that have been in the zone since the stream began.
    """

    name: str
    present: int
    entered: int


@dataclass(frozen=True, slots=True)
class LineCount:
    """The tracked objects that have crossed one line since the stream began, see `edge_isp.tracking`.

    Attributes:
        name: of the line.
        to_right: number of crossings from the left side to the right side, as seen when looking from the line's start
            to its end.
        to_left: number of crossings in the other direction.
    """

    name: str
    to_right: int
    to_left: int


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in one RAW frame, the most confident first.

    Attributes:
        xyxy: float32 (n, 4), boxes as x0, y0, x1, y1 in the sensor's pixels, turned upright as the frame's orientation
            says: (0, 0) is the upper left corner, (width, height) the lower right one; within the frame.
        confidence: float32 (n,), 0 to 1.
        class_id: int32 (n,), indices into `class_names`.
        class_names: names of all classes that the model knows.
        source: what delivered the frame, see `RawFrame`.
        sequence: number of the frame at its source, see `RawFrame`.
        timestamp_ns: of the frame, see `RawFrame`.
        applied: see `Picture`.
        size: width and height in pixels of the upright frame that the boxes lie in; None where it is not known.
        track_id: int32 (n,), the same number for the same object from frame to frame, from 1 on, and -1 for a detection
            that is not tracked (yet); None where nothing is tracked.
        zones: counts of each zone.
        lines: counts of each line.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int32]
    class_names: tuple[str, ...]
    source: str
    sequence: int
    timestamp_ns: int
    applied: AppliedCorrections | None = None
    size: tuple[int, int] | None = None
    track_id: NDArray[np.int32] | None = None
    zones: tuple[ZoneCount, ...] = ()
    lines: tuple[LineCount, ...] = ()

    def __len__(self) -> int:
        return len(self.xyxy)

    @property
    def names(self) -> list[str]:
        """The class's name of each detection."""
        return [self.class_names[class_id] for class_id in self.class_id]

    @property
    def tracks(self) -> list[int | None]:
        """The number of each detection's track; None for a detection that is not tracked."""
        if self.track_id is None:
            return [None] * len(self)
        return [number if number > 0 else None for number in self.track_id.tolist()]

    def to_supervision(self) -> Any:
        """A `supervision.Detections`, with the classes' names as `data["class_name"]`.

        Raises:
            MissingDependencyError: the package `supervision` is not installed.
        """
        try:
            import supervision
        except ModuleNotFoundError as error:
            if error.name != "supervision":
                raise
            raise MissingDependencyError("Detections.to_supervision", "supervision", "supervision") from error
        return supervision.Detections(
            xyxy=self.xyxy.copy(),
            confidence=self.confidence.copy(),
            class_id=self.class_id.astype(np.int64),
            tracker_id=None if self.track_id is None else self.track_id.astype(np.int64),
            data={"class_name": np.array(self.names, dtype=np.str_)},
        )

    def to_vision_msgs(self, frame_id: str = "", *, stamp_ns: int | None = None) -> dict[str, Any]:
        """A plain dictionary in the layout of ROS 2's `vision_msgs/Detection2DArray` (vision_msgs 4).

        `rosidl_runtime_py.set_message_fields` puts it into a message. A class is named, not numbered. The stamp is
        `timestamp_ns` of the sensor's clock (CLOCK_MONOTONIC) where no other is given.

        Args:
            frame_id: of the header: the camera's coordinate frame.
            stamp_ns: start of exposure on ROS's clock, such as `FrameResult.timestamp_realtime_ns`.
        """
        header = self._header(frame_id, self.timestamp_ns if stamp_ns is None else stamp_ns)
        return {
            "header": header,
            "detections": [
                {
                    "header": header,
                    "results": [
                        {
                            "hypothesis": {"class_id": name, "score": float(confidence)},
                            "pose": {
                                "pose": {
                                    "position": {"x": 0.0, "y": 0.0, "z": 0.0},
                                    "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0},
                                },
                                "covariance": [0.0] * 36,
                            },
                        }
                    ],
                    "bbox": {
                        "center": {"position": {"x": (x0 + x1) / 2, "y": (y0 + y1) / 2}, "theta": 0.0},
                        "size_x": x1 - x0,
                        "size_y": y1 - y0,
                    },
                    "id": "" if track is None else str(track),
                }
                for (x0, y0, x1, y1), confidence, name, track in zip(
                    self.xyxy.tolist(), self.confidence, self.names, self.tracks, strict=True
                )
            ],
        }

    @staticmethod
    def _header(frame_id: str, stamp_ns: int) -> dict[str, Any]:
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        return {"stamp": {"sec": seconds, "nanosec": nanoseconds}, "frame_id": frame_id}


@dataclass(frozen=True, slots=True)
class FrameResult:
    """The result of one frame, as a pipeline delivers it.

    Attributes:
        result: a picture, or a detector's detections.
        source: of the frame, see `RawFrame`.
        sequence: of the frame, see `RawFrame`.
        timestamp_ns: of the frame, see `RawFrame`.
        stages_ns: nanoseconds spent in "read" (including the wait for the camera), "meter" (for frames without white
            balance, and with auto-exposure), "encode", "keep" (the copy of the RAW frame, if asked for), "infer" and
            "decode", in this order.
        queued_ns: nanoseconds that it waited for "encode", "infer", "decode" and "deliver", in this order. The first
            frame's wait for "infer" includes loading and warming up the model.
        delivered_ns: when it was delivered, CLOCK_MONOTONIC.
        status: of the frame, see `FrameStatus`.
        model: name of the model that made it.
        delegate: what ran the model, see `EngineReport.delegate`.
        raw: the RAW frame with data of its own, for consumers with `keep_raw=True`; None for others.
        wall_clock_offset_ns: from CLOCK_MONOTONIC to CLOCK_REALTIME, or to the clock of `StreamOptions.wall_clock`, as
            it was when the result was made.
        now_ns: the clock of `timestamp_ns`, in nanoseconds.
    """

    result: Picture | Detections
    source: str
    sequence: int
    timestamp_ns: int
    stages_ns: dict[str, int]
    queued_ns: dict[str, int]
    delivered_ns: int
    status: FrameStatus
    model: str
    delegate: str = ""
    raw: RawFrame | None = None
    wall_clock_offset_ns: int = field(default_factory=SYSTEM_WALL_CLOCK.offset_ns, repr=False, compare=False)
    now_ns: Callable[[], int] = field(default=time.monotonic_ns, repr=False, compare=False)

    @property
    def picture(self) -> Picture:
        """The result of a model that makes pictures.

        Raises:
            TypeError: it is a detector.
        """
        if not isinstance(self.result, Picture):
            raise TypeError(f"{self.model} makes no pictures, it detects: see `detections`")
        return self.result

    @property
    def detections(self) -> Detections:
        """The result of a detector.

        Raises:
            TypeError: it is a model that makes pictures.
        """
        if not isinstance(self.result, Detections):
            raise TypeError(f"{self.model} detects nothing, it makes pictures: see `picture`")
        return self.result

    @property
    def age_ns(self) -> int:
        """Nanoseconds from the start of exposure until now: it grows from one reading to the next, and steps of the
        wall clock do not change it. Of frames whose time stamp is of another clock, as in a recording, it says nothing.
        """
        return self.now_ns() - self.timestamp_ns

    @property
    def latency_ns(self) -> int:
        """Nanoseconds from the start of exposure to the delivery."""
        return self.delivered_ns - self.timestamp_ns

    @property
    def timestamp_realtime_ns(self) -> int:
        """Start of exposure in nanoseconds since 1970 (CLOCK_REALTIME), or on the clock of `StreamOptions.wall_clock`,
        as that clock ran when the result was made; see `WallClock`."""
        return self.timestamp_ns + self.wall_clock_offset_ns
