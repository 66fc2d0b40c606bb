"""The newest picture in shared memory, for other processes of this machine.

The picture is a PPM file in /dev/shm, the file system of POSIX shared memory. Each picture is a new file that takes the
old one's name in one step: a reader that has opened it keeps that picture, whole, for as long as it likes, and nobody
waits for anybody.
"""

from __future__ import annotations

import errno
import re
import socket
from pathlib import Path

import numpy as np

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import SinkError, shortened
from edge_isp.files import read_file, remove_unfinished, write_file
from edge_isp.results import FrameResult, Picture
from edge_isp.sinks.pictures import Pictures

_FOLDER = Path("/dev/shm")
_LARGEST_BYTES = 1 << 30
_HEADER = re.compile(
    rb"P6\n# sequence=(-?[0-9]{1,20}) timestamp_ns=(-?[0-9]{1,20}) source=([^\n]*)\n([0-9]{1,6}) ([0-9]{1,6})\n255\n"
)


class SharedMemorySink:
    """Keeps the newest picture in shared memory; `edge_isp.read_shared` reads it.

    It is a PPM file, /dev/shm/NAME.ppm, which most programs can open. A picture is never torn: a reader sees the one
    before or the one after. The file is deleted when the sink is closed; after a kill the last picture stays until a
    sink of that name is opened again.

    Args:
        name: at most 94 letters, digits, ".", "_" and "-".
        overlay: draws detections. Without it the picture of a detector's frame is plain.
        profile: of the sensor, for pictures of a detector's frames; None is the shipped profile of the frame's sensor.
        tone: of these pictures, "camera" or "srgb", see `ModelOptions.tone`.

    Attributes:
        needs_raw: see `Sink`.
        path: of the file.

    Raises:
        ProfileError: there is no such tone.
        SinkError: the name is not one, another sink has it, or there is no shared memory here.
    """

    needs_raw = "detections"

    def __init__(
        self, name: str, *, overlay: bool = False, profile: SensorProfile | None = None, tone: str = "camera"
    ) -> None:
        self.path = _path(name)
        self._pictures = Pictures(profile, tone, overlay=overlay)
        # A name that the kernel takes back when its process ends, however it ends.
        self._lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._lock.bind(f"\0edge-isp-shm-{name}")
            remove_unfinished(_FOLDER)
            self.path.unlink(missing_ok=True)
        except OSError as error:
            self._lock.close()
            reason = "another sink has this name" if error.errno == errno.EADDRINUSE else error.strerror or error
            raise SinkError(f"shm:{name}: {reason}") from error
        self._closed = False

    def write(self, result: FrameResult) -> None:
        """Puts a result's picture in the place of the one before.

        Args:
            result: of a model that makes pictures, or with `raw`.

        Raises:
            SinkError: it cannot be written, or the sink is closed.
        """
        if self._closed:
            raise SinkError(f"{self.path}: the sink is closed")
        picture = self._pictures.of(result)
        try:
            write_file(self.path, _encoded(picture), overwrite=True)
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Deletes the picture. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.path.unlink(missing_ok=True)
        self._lock.close()


def read_shared(name: str) -> Picture:
    """The newest picture of a `shm:NAME` sink, of another process or of this one.

    `sequence` tells whether it is a new one, `timestamp_ns` (CLOCK_MONOTONIC) how old it is.

    Args:
        name: the sink's.

    Returns:
        A picture of its own, which the sink does not change.

    Raises:
        SinkError: there is none: the sink is closed, or has not written yet.
    """
    path = _path(name)
    content = read_file(path, SinkError, _LARGEST_BYTES)
    match = _HEADER.match(content)
    if match is None:
        raise SinkError(f"{path}: not a picture of a sink shm:{name}")
    width, height = int(match[4]), int(match[5])
    if len(content) - match.end() != 3 * width * height:
        raise SinkError(f"{path}: expected {width}x{height} pixels, found {len(content) - match.end()} bytes")
    rgb = np.frombuffer(content, np.uint8, offset=match.end()).reshape(height, width, 3).copy()
    return Picture(rgb, match[3].decode("utf-8", "replace"), int(match[1]), int(match[2]))


def _encoded(picture: Picture) -> bytes:
    height, width, _ = picture.rgb.shape
    source = re.sub(r"[\r\n]", " ", picture.source)
    comment = f"# sequence={picture.sequence} timestamp_ns={picture.timestamp_ns} source={source}"
    header = f"P6\n{comment}\n{width} {height}\n255\n".encode("utf-8", "replace")
    return header + picture.rgb.tobytes()


def _path(name: str) -> Path:
    # The name of the lock, an abstract socket, has 107 bytes at most.
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,93}", name):
        raise SinkError(
            f"shm: the name must be of letters, digits, '.', '_' and '-', at most 94, found '{shortened(name)}'"
        )
    return _FOLDER / f"{name}.ppm"
