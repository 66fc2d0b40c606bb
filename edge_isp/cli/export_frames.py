"""Frames of a recording, written as other files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from edge_isp.calibration.profile import SensorProfile, load_profile
from edge_isp.cameras.mcap import McapCamera
from edge_isp.cameras.raw_files import RawFiles
from edge_isp.errors import CameraError, SinkError
from edge_isp.frame import RawFrame
from edge_isp.frame_check import check_frame
from edge_isp.metering.meter import FrameMeter
from edge_isp.plugins import load
from edge_isp.recording.dng import write_dng
from edge_isp.results import FrameResult, Picture
from edge_isp.sinks.base import Sink
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
        frames = islice(iter(source.read, None), most)
        if file_format == "raw":
            with RawFiles(out, file.stem) as files:
                return _each(frames, files.write), out
        if file_format == "dng":
            writer = DngWriter(out, file.stem, known)
            return _each(frames, writer.write), out
        sink = load("sinks", "png" if file_format == "png" else "video")(out)
        with closing(sink):
            developed = Developer(known)
            count = _each(frames, lambda frame: _write(sink, frame, developed))
        # No video is replaced: its name may have got a number.
        return count, out if file_format == "png" else sink.path


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
        name: of the files; None is that of each frame's source.
        profile: of the sensor; None is the shipped profile of the frames' sensor.

    Raises:
        SinkError: the folder cannot be made.
    """

    def __init__(self, folder: Path, name: str | None, profile: SensorProfile | None) -> None:
        self._folder, self._name, self._profile = folder, name, profile
        self._developer = Developer(profile)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise SinkError(f"{folder}: cannot be made: {getattr(error, 'strerror', None) or error}") from error

    def write(self, frame: RawFrame) -> None:
        """Writes a frame, with a small picture.

        Args:
            frame: to write.

        Raises:
            FormatError: no DNG can hold it.
            SinkError: it cannot be written, or a file of that name is there.
        """
        name = self._name or Path(frame.source).stem or "frame"
        path = self._folder / f"{name}_{frame.sequence:06d}.dng"
        write_dng(path, frame, profile=self._profile, thumbnail=self._developer.picture(frame))


def _each(frames: Iterator[RawFrame], write: Callable[[RawFrame], object]) -> int:
    count = 0
    for frame in frames:
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
