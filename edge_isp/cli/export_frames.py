"""Frames of a recording, written as other files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from edge_isp.calibration.profile import SensorProfile, load_profile
from edge_isp.cameras.mcap import McapCamera
from edge_isp.cameras.raw_files import RawFiles
from edge_isp.errors import CameraError, SinkError
from edge_isp.frame import RawFrame
from edge_isp.frame_check import check_frame
from edge_isp.metering.meter import FrameMeter
from edge_isp.recording.dng import write_dng
from edge_isp.results import FrameResult, Picture
from edge_isp.sinks.base import Sink
from edge_isp.sinks.spec import open_sink
from edge_isp.tasks.classical import ClassicalIsp


def export_frames(
    file: Path, camera: str | None, file_format: str, out: Path, most: int | None, profile: str | None
) -> tuple[int, Path]:
    """Writes the frames of a recording.

    Args:
        file: the recording.
        camera: its name in the recording; None where there is only one.
        file_format: "raw", "dng", "png" or "mp4".
        out: folder, or the video's file.
        most: frames; None is all.
        profile: of the sensor; None is the shipped profile of the frames' sensor.

    Returns:
        How many frames were written, and where.
    """
    known = None if profile is None else load_profile(profile)
    with McapCamera(file, name=camera) as source:
        offset_ns = utc_offset_ns(source)
        frames = islice(iter(source.read, None), most)
        if file_format == "raw":
            with RawFiles(out, file.stem) as files:
                return _each(frames, files.write), out
        if file_format == "dng":
            writer = DngWriter(out, file.stem, known)
            return _each(frames, lambda frame: writer.write(frame, offset_ns)), out
        spec = f"png:{out}" if file_format == "png" else f"video:{out}"
        with closing(open_sink(spec)) as sink:
            developed = Developer(known)
            return _each(frames, lambda frame: _write(sink, frame, developed)), out


def utc_offset_ns(camera: McapCamera) -> int | None:
    """What is added to a frame's time stamp for nanoseconds of UTC: of the recording's first pair of clocks.

    Args:
        camera: of the recording.
    """
    from edge_isp.recording.schemas import CLOCK

    recording = camera.recording
    for name in recording.cameras:
        for _, clocks in recording.json_messages(CLOCK, name):
            monotonic, realtime = clocks.get("monotonic_ns"), clocks.get("realtime_ns")
            if isinstance(monotonic, int) and isinstance(realtime, int):
                return realtime - monotonic
    return None


class Developer:
    """Pictures of frames, by the classical way, with the light metered where a frame says nothing of it.

    Args:
        profile: of the sensor; None is the shipped profile of the frames' sensor.
    """

    def __init__(self, profile: SensorProfile | None) -> None:
        self._meter, self._isp = FrameMeter(profile), ClassicalIsp(profile)

    def picture(self, frame: RawFrame) -> Picture:
        """A frame's picture.

        Args:
            frame: of a camera.
        """
        return self._isp.develop(self._meter.complete(check_frame(frame)[0]))


class DngWriter:
    """Frames to DNG files NAME_NUMBER.dng.

    Args:
        folder: made if it does not exist.
        name: of the files.
        profile: of the sensor; None is the shipped profile of the frames' sensor.

    Raises:
        SinkError: the folder cannot be made.
    """

    def __init__(self, folder: Path, name: str, profile: SensorProfile | None) -> None:
        self._folder, self._name, self._profile = folder, name, profile
        self._developer = Developer(profile)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise SinkError(f"{folder}: cannot be made: {getattr(error, 'strerror', None) or error}") from error

    def write(self, frame: RawFrame, utc_offset_ns: int | None) -> None:
        """Writes a frame, with a small picture.

        Args:
            frame: to write.
            utc_offset_ns: what is added to its time stamp for nanoseconds of UTC; None where that is not known.

        Raises:
            FormatError: no DNG can hold it.
            SinkError: it cannot be written, or a file of that name is there.
        """
        taken_at = None
        if utc_offset_ns is not None and 0 <= frame.timestamp_ns + utc_offset_ns < 2**62:
            taken_at = datetime.fromtimestamp((frame.timestamp_ns + utc_offset_ns) / 1e9, UTC)
        path = self._folder / f"{self._name}_{frame.sequence:06d}.dng"
        picture = self._developer.picture(frame)
        write_dng(path, frame, profile=self._profile, thumbnail=picture, taken_at=taken_at)


def _each(frames: Iterator[RawFrame | None], write: object) -> int:
    count = 0
    for frame in frames:
        assert frame is not None
        assert callable(write)
        with frame:
            write(frame)
        count += 1
    if not count:
        raise CameraError("the recording holds no frame of this camera")
    return count


def _write(sink: Sink, frame: RawFrame, developer: Developer) -> None:
    sink.write(
        FrameResult(
            result=developer.picture(frame),
            source=frame.source,
            sequence=frame.sequence,
            timestamp_ns=frame.timestamp_ns,
            stages_ns={},
            queued_ns={},
            delivered_ns=frame.timestamp_ns,
            status=frame.status,
            model="classical",
            raw=frame,
        )
    )
