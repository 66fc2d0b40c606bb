"""Pictures to a video file that a power cut does not spoil."""

from __future__ import annotations

import io
import os
import struct
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import SinkError
from edge_isp.results import FrameResult, Picture
from edge_isp.sinks.h264 import H264Writer
from edge_isp.sinks.pictures import Pictures
from edge_isp.sinks.timeline import TICKS_PER_S

# Options of the container that make it one fragment after the other.
_CONTAINERS = {
    ".mp4": ("mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    ".mkv": ("matroska", {"cluster_time_limit": "1000"}),
}
_MOST_PARTS = 999_999


class VideoSink:
    """Writes pictures as H.264 into a fragmented MP4 or a Matroska file (extra `video`).

    A fragment holds about a second and is on the disk when the next one begins: after a kill or a power cut the file
    plays up to its last fragment. The frame rate is variable: the difference of two frames' times is that of their
    sensor's time stamps, to 11 microseconds in MP4 and to a millisecond in Matroska. The first frame is at 0, and its
    sensor time is in the container's metadata (`comment`, "timestamp_ns=...").

    No file is overwritten: where the name is taken, the file is named FILE_2.mp4 and so on. With `split_s` or
    `split_mb` the files are FILE_000001.mp4, FILE_000002.mp4, ...; each plays by itself. A new file begins also when
    the size of the pictures changes.

    The encoder is the board's own where it has one (`h264_v4l2m2m`), else x264.

    Args:
        file: name of the file, ending in .mp4 or .mkv; its folder is made if it does not exist.
        overlay: draws detections. Without it the picture of a detector's frame is plain.
        split_s: begins a new file after so many seconds of video; None never does.
        split_mb: begins a new file after so many megabytes; None never does.
        profile: of the sensor, for pictures of a detector's frames; None is the shipped profile of the frame's sensor.
        tone: of these pictures, "camera" or "srgb", see `ModelOptions.tone`.

    Attributes:
        needs_raw: see `Sink`.
        path: of the file that is being written, or was last.

    Raises:
        ProfileError: there is no such tone.
        SinkError: the name ends otherwise, the folder cannot be written to, or a value is out of range.
    """

    needs_raw = "detections"

    def __init__(
        self,
        file: str | Path,
        *,
        overlay: bool = False,
        split_s: float | None = None,
        split_mb: float | None = None,
        profile: SensorProfile | None = None,
        tone: str = "camera",
    ) -> None:
        self._file = Path(file)
        if self._file.suffix.lower() not in _CONTAINERS:
            raise SinkError(f"{file}: the name of a video must end in {' or '.join(_CONTAINERS)}")
        for name, value in (("split_s", split_s), ("split_mb", split_mb)):
            if value is not None and value <= 0:
                raise SinkError(f"{name} must be above 0, found {value:g}")
        self._split_ticks = None if split_s is None else split_s * TICKS_PER_S
        self._split_bytes = None if split_mb is None else round(split_mb * 1e6)
        self._pictures = Pictures(profile, tone, overlay=overlay)
        self._part: _Part | None = None
        self._parts = 0
        self._closed = False
        self.path: Path | None = None
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise SinkError(f"{file}: cannot be written: {getattr(error, 'strerror', None) or error}") from error
        if not os.access(self._file.parent, os.W_OK | os.X_OK):
            raise SinkError(f"{file}: cannot be written: no permission to write in {self._file.parent}")

    def write(self, result: FrameResult) -> None:
        """Adds a result's picture.

        Args:
            result: of a model that makes pictures, or with `raw`.

        Raises:
            SinkError: it cannot be written, or the sink is closed.
        """
        if self._closed:
            raise SinkError(f"{self._file}: the sink is closed")
        picture = self._pictures.of(result)
        height, width, _ = picture.rgb.shape
        if self._part is not None and (self._part.size != (width, height) or self._is_full(self._part)):
            self._end_part()
        if self._part is None:
            self._part = self._begin_part(picture)
        self._part.write(picture)

    def close(self) -> None:
        """Completes the file. Idempotent.

        Raises:
            SinkError: it cannot be completed; what is in it plays nevertheless.
        """
        self._closed = True
        self._end_part()

    def _is_full(self, part: _Part) -> bool:
        too_long = self._split_ticks is not None and part.elapsed_ticks >= self._split_ticks
        return too_long or (self._split_bytes is not None and part.written_bytes >= self._split_bytes)

    def _begin_part(self, picture: Picture) -> _Part:
        self._parts += 1
        number = self._parts
        splits = self._split_ticks is not None or self._split_bytes is not None
        while number <= _MOST_PARTS:
            name = f"_{number:06d}" if splits else f"_{number}" if number > 1 else ""
            path = self._file.with_name(f"{self._file.stem}{name}{self._file.suffix}")
            try:
                part = _Part(path, picture)
            except FileExistsError:
                number += 1
                continue
            except OSError as error:
                raise SinkError(f"{path}: cannot be written: {error.strerror or error}") from error
            self.path, self._parts = path, number
            return part
        raise SinkError(f"{self._file}: there are {_MOST_PARTS} files of that name already")

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            part.close()


class _Part:
    """One file.

    Args:
        path: of the file.
        picture: the first.

    Raises:
        FileExistsError: there is such a file.
        OSError: it cannot be made.
        SinkError: the pictures cannot be encoded.
    """

    def __init__(self, path: Path, picture: Picture) -> None:
        self._path = path
        form, options = _CONTAINERS[path.suffix.lower()]
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._output = (_Mp4Output if form == "mp4" else _Output)(descriptor)
        height, width, _ = picture.rgb.shape
        self._container: Any = None
        try:
            _sync(path.parent)
            self._container = av.open(self._output, "w", format=form, container_options=options)
            self._container.metadata["comment"] = f"timestamp_ns={picture.timestamp_ns}"
            self._container.metadata["creation_time"] = datetime.now(UTC).isoformat()
            self._writer = H264Writer(str(path), self._container, width, height)
        except BaseException:
            self._output.close()
            path.unlink()
            raise
        self.size = self._writer.size

    @property
    def elapsed_ticks(self) -> int:
        """The time of the last picture in the file."""
        return self._writer.elapsed_ticks

    @property
    def written_bytes(self) -> int:
        """Size of the file."""
        return self._output.written_bytes

    def write(self, picture: Picture) -> None:
        """Adds a picture; a fragment that is whole is on the disk afterwards."""
        try:
            if self._writer.write(picture):
                self._output.commit()
        except (FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Completes the file."""
        try:
            self._writer.finish()
            self._container.close()
            self._output.commit()
        except (FFmpegError, OSError) as error:
            raise self._failure(error) from error
        finally:
            self._output.close()

    def _failure(self, error: Exception) -> SinkError:
        return SinkError(f"{self._path}: cannot be written: {getattr(error, 'strerror', None) or error}")


class _Output(io.RawIOBase):
    """The file that PyAV writes to; without a buffer of its own, so that a kill loses no more than libav holds.

    Args:
        descriptor: of the file, which is closed together with this.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self.written_bytes = 0

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = self._put(memoryview(data).cast("B"))
        self.written_bytes += size
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._number, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._number, 0, os.SEEK_CUR)

    def commit(self) -> None:
        """Puts what was written on the disk; to be called when a fragment is whole."""
        os.fdatasync(self._number)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        super().close()

    @property
    def _number(self) -> int:
        if self._descriptor is None:
            raise ValueError("the file is closed")
        return self._descriptor

    def _put(self, data: memoryview) -> int:
        rest = data
        while rest:
            rest = rest[os.write(self._number, rest) :]
        return len(data)


class _Mp4Output(_Output):
    """A file of MP4 fragments, none of which is ever seen in part.

    Players refuse a file that ends within the header of a fragment (`moof`). Each fragment is therefore written as a
    box to be skipped (`free`) that takes its place; when all of it is on the disk, its first eight bytes, which make it
    a fragment, follow.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._fragment = bytearray()

    def seekable(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        self._fragment += data
        self.written_bytes += len(data)
        return len(data)

    def commit(self) -> None:
        fragment, self._fragment = self._fragment, bytearray()
        if fragment[4:8] != b"moof":
            self._put(memoryview(fragment))
            return super().commit()
        begin, header = self.tell(), bytes(fragment[:8])
        fragment[:8] = struct.pack(">I4s", len(fragment), b"free")
        self._put(memoryview(fragment))
        super().commit()
        os.pwrite(self._number, header, begin)
        super().commit()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # file systems that cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
