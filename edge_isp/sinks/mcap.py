"""Recordings: the frames of a camera as it gave them, and what was made of them, to MCAP files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_isp.calibration.profile import SensorProfile, profile_of
from edge_isp.calibration.profile_file import format_profile
from edge_isp.errors import SinkError, did_you_mean, shortened
from edge_isp.frame import RawFrame
from edge_isp.recording.annotations import annotations_message, detections_message
from edge_isp.recording.recorder import Recorder, RecordingCounts, RecordingOptions
from edge_isp.recording.schemas import ANNOTATIONS, DETECTIONS, EVENTS, PREVIEW
from edge_isp.results import Detections, FrameResult
from edge_isp.sinks.preview import Previewer, preview_scale

_TRIGGER = re.compile(r"detection:([^<>=]+)>(0|1|0?\.[0-9]+|1\.0+)")
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class DetectionTrigger:
    """An object that a recording of events waits for.

    Attributes:
        name: of the class.
        confidence: that it must have more than.
    """

    name: str
    confidence: float

    @classmethod
    def parse(cls, text: str) -> DetectionTrigger:
        """The trigger of a text such as "detection:person>0.6".

        Args:
            text: of the trigger.

        Raises:
            SinkError: it is none.
        """
        match = _TRIGGER.fullmatch(text)
        if match is None:
            raise SinkError(
                f"a trigger must be detection:CLASS>CONFIDENCE, such as detection:person>0.6; found '{shortened(text)}'"
            )
        return cls(match[1].strip(), float(match[2]))

    def check(self, model: str, classes: Sequence[str]) -> None:
        """Refuses an object that would never be found.

        Args:
            model: its name.
            classes: that it knows; none where it is no detector.

        Raises:
            SinkError: the class is not among them.
        """
        if not classes:
            raise SinkError(f"a trigger 'detection:{self.name}' needs a detector, and '{model}' makes pictures")
        if self.name not in classes:
            raise SinkError(
                f"a trigger 'detection:{self.name}': '{model}' knows no class '{shortened(self.name)}'"
                f"{did_you_mean(self.name, classes)}"
            )

    def found_in(self, detections: Detections) -> str | None:
        """What was found, in words; None where it was not.

        Args:
            detections: of a frame.
        """
        for name, confidence in zip(detections.names, detections.confidence, strict=True):
            if name == self.name and confidence > self.confidence:
                return f"{name} {confidence:.2f} in frame {detections.sequence}"
        return None


class McapSink:
    """Records every frame of the camera bit for bit, whether or not there is a result of it, and the results beside it.

    Detections are kept exactly, and as annotations of the previews for Foxglove. Of pictures only the frames they were
    made of are kept: a replay makes them again.

    Args:
        path: a file whose name ends in ".mcap", or a folder; see `Recorder`.
        compress: whether chunks are compressed (zstd).
        split_mb: a new file begins before a file would be larger than so many million bytes.
        split_s: a new file begins after so many seconds.
        budget_mb: of all recordings in the folder, in millions of bytes; the oldest are deleted, events never.
        memory_mb: of frames that wait for the disk or a trigger, in millions of bytes.
        before_s: records events only, with so many seconds before each.
        after_s: how long an event goes on after its last trigger.
        trigger: what begins an event, such as "detection:person>0.6"; None for those of `trigger` alone.
        preview_fps: previews a second, at most; 0 makes none.
        profile: of the sensor; None is the shipped profile of the frames' sensor.
        cameras: their names.
        attachments: content by name, for every file.
        metadata: texts by name, for every file.

    Raises:
        MissingDependencyError: a package of the extra "recording" is not installed.
        SinkError: nothing can be written there, or a value is out of range.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        compress: bool = False,
        split_mb: float | None = None,
        split_s: float | None = None,
        budget_mb: float | None = None,
        memory_mb: float = 256,
        before_s: float = 0.0,
        after_s: float = 5.0,
        trigger: str | None = None,
        preview_fps: float = 2.0,
        profile: SensorProfile | None = None,
        cameras: Sequence[str] = ("camera",),
        attachments: Mapping[str, bytes] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._trigger = DetectionTrigger.parse(trigger) if trigger is not None else None
        if not 0 <= preview_fps <= 1000:
            raise SinkError(f"preview_fps must be 0 to 1000, found {preview_fps}")
        options = RecordingOptions(
            compress=compress,
            split_bytes=_bytes(split_mb),
            split_s=split_s,
            budget_bytes=_bytes(budget_mb),
            memory_bytes=_bytes(memory_mb) or 0,
            before_s=before_s,
            after_s=after_s,
        )
        self._profile, self._cameras = profile, tuple(cameras)
        self._profiles_seen: set[str] = set()
        attached = dict(attachments or {})
        if profile is not None:
            attached["profile.toml"] = format_profile(profile).encode()
        self._recorder = Recorder(path, options, cameras=cameras, attachments=attached, metadata=metadata)
        self._previewer = Previewer(preview_fps, profile, self._add_preview)
        self._sizes: dict[str, tuple[int, int, int]] = {}  # width, height, orientation of each camera's frames
        self._path, self._closed = path, False

    @property
    def counts(self) -> RecordingCounts:
        """What became of the frames."""
        return self._recorder.counts

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were begun, in order."""
        return self._recorder.files

    @property
    def triggered(self) -> bool:
        """Whether an event is being recorded; always true without `before_s`."""
        return self._recorder.triggered

    def frame_arrived(self, frame: RawFrame, camera: str | None = None) -> None:
        """Records a frame; see `Sink`.

        Args:
            frame: as the camera gave it.
            camera: its name; None is the first.
        """
        camera = camera or self._cameras[0]
        layout = frame.format
        self._sizes[camera] = layout.width, layout.height, frame.orientation
        if frame.sensor is not None and self._profile is None and frame.sensor not in self._profiles_seen:
            self._profiles_seen.add(frame.sensor)
            profile = profile_of(frame.sensor)
            if profile is not None:
                self._recorder.attach(f"{profile.name}.toml", format_profile(profile).encode())
        self._recorder.frame(frame, camera)
        self._previewer.offer(frame, camera)

    def event(self, message: dict[str, Any], camera: str | None = None) -> None:
        """Records an event of the pipeline; see `Sink`.

        Args:
            message: of the event.
            camera: that it is about; None is the first.
        """
        self._recorder.message(EVENTS, message, message["time_ns"], camera)

    def write(self, result: FrameResult) -> None:
        """Records detections, and begins an event where they have the trigger.

        Args:
            result: of any model.

        Raises:
            SinkError: the sink is closed, or the model does not know the class of the trigger.
        """
        if self._closed:
            raise SinkError(f"{self._path}: the sink is closed")
        if not isinstance(result.result, Detections):
            return
        if self._trigger is not None:
            self._trigger.check(result.model, result.result.class_names)
        camera = self._cameras[0]
        width, height, orientation = self._sizes.get(camera, (0, 0, 1))
        if orientation > 4:
            width, height = height, width
        if self._trigger is not None and (found := self._trigger.found_in(result.result)):
            self._recorder.trigger(found)
        detected = detections_message(result.result, result.model, width, height)
        self._recorder.message(DETECTIONS, detected, result.timestamp_ns)
        scale = preview_scale(width, height) if width else 1.0
        stamp_ns = self._recorder.utc_ns(result.timestamp_ns)
        self._recorder.message(ANNOTATIONS, annotations_message(result.result, scale, stamp_ns), result.timestamp_ns)

    def attach(self, name: str, content: bytes) -> None:
        """Adds an attachment to the present file, and to every one that follows.

        Args:
            name: of the attachment.
            content: of it.
        """
        self._recorder.attach(name, content)

    def trigger(self, reason: str) -> None:
        """Begins an event, or makes the present one longer: for buttons and signals.

        Args:
            reason: in words.
        """
        self._recorder.trigger(reason)

    def close(self) -> None:
        """Writes what waits, and the index. Idempotent.

        Raises:
            SinkError: the disk does not respond.
        """
        self._closed = True
        self._previewer.close()
        self._recorder.close()

    def _add_preview(self, message: dict[str, Any], stamp_ns: int, camera: str) -> None:
        seconds, nanoseconds = divmod(self._recorder.utc_ns(stamp_ns), 1_000_000_000)
        self._recorder.message(
            PREVIEW, {"timestamp": {"sec": seconds, "nsec": nanoseconds}, **message}, stamp_ns, camera
        )


def _bytes(millions: float | None) -> int | None:
    return None if millions is None else round(millions * _MB)
