"""Pictures to files of a folder, each whole and under a name of its own: what `png` and `jpeg` have in common."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import SinkError
from edge_isp.files import remove_unfinished, write_new
from edge_isp.results import FrameResult, Picture
from edge_isp.sinks.annotate import picture_of
from edge_isp.sinks.schedule import Schedule
from edge_isp.tasks.classical import ClassicalIsp

# Bytes of a source's name in a file's name, which may have 255 with all that follows.
_LONGEST_SOURCE = 120

# Characters of a folder's path in a message.
_LONGEST_SHOWN = 1000


class ImageFilesSink:
    """Writes each picture as `SOURCE_SESSION_NUMBER.SUFFIX`; a base class.

    SOURCE is the stem of the frame's source, SESSION the time when the sink was opened (UTC, to the second) and NUMBER
    that of the frame at its source, in six digits: `scene_20261128T101500Z_000042.png`. Sorted by name, the files of a
    session are in order. No file is ever replaced: where the name is taken, because a camera that came back counts
    anew or a board without a clock battery repeats its times, the file is named `scene_20261128T101500Z_000042_2.png`.

    A file appears under its name when it is complete and on the disk. What a killed process left unfinished is deleted
    when the next sink is opened in the folder.

    Detections are drawn on a picture of their frame, see `picture_of`.

    Args:
        folder: made if it does not exist.
        schedule: which results `write` takes.
        profile: of the sensor, for pictures that detections are drawn on; None is the shipped profile of the frame's
            sensor.
        tone: of these pictures, "camera" or "srgb", see `ModelOptions.tone`.

    Attributes:
        folder: of the files.
        needs_raw: see `Sink`.

    Raises:
        ProfileError: there is no such tone.
        SinkError: nothing can be written to the folder.
    """

    needs_raw: bool | str = "detections"
    suffix = ""

    def __init__(
        self, folder: str | Path, schedule: Schedule, profile: SensorProfile | None = None, tone: str = "camera"
    ) -> None:
        self.folder = Path(folder)
        self._developer, self._schedule = ClassicalIsp(profile, tone=tone), schedule
        self._session = session_name(datetime.now(UTC))
        self._closed = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_unfinished(self.folder)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = getattr(error, "strerror", None) or error
            raise SinkError(f"{str(self.folder)[:_LONGEST_SHOWN]}: cannot write pictures there: {reason}") from error

    def write(self, result: FrameResult) -> None:
        """Writes the result's picture, or its detections on a picture of their frame, where the schedule takes it.

        Args:
            result: of a model that makes pictures, or with `raw`.

        Raises:
            SinkError: it cannot be written, or the sink is closed.
        """
        self._check_open()  # before there is anything to draw
        if self._schedule.takes(result.timestamp_ns):
            self.save(picture_of(result, self._developer))

    def save(self, picture: Picture) -> Path:
        """Writes a picture.

        Args:
            picture: whose source and sequence are in the file's name.

        Returns:
            Path of the file.

        Raises:
            SinkError: it cannot be written, or the sink is closed.
        """
        self._check_open()
        return self._write_new(picture.source, picture.sequence, self.encode(picture))

    def encode(self, picture: Picture) -> bytes:
        """The content of a picture's file.

        Args:
            picture: to encode.
        """
        raise NotImplementedError

    def _write_new(self, source: str, sequence: int, content: bytes) -> Path:
        """Writes a file with a name of its own."""
        stem = f"{_source_name(source)}_{self._session}_{sequence:06d}"
        try:
            return write_new(self.folder, stem, self.suffix, content)
        except OSError as error:
            path = self.folder / f"{stem}{self.suffix}"
            raise SinkError(f"{path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Ends the writing; every file is already complete. Idempotent."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise SinkError(f"{self.folder}: the sink is closed")


def session_name(start: datetime) -> str:
    """The start of a session as it stands in names of files.

    Args:
        start: with its time zone.

    Returns:
        UTC, to the second, in ISO 8601's basic format: "20261128T101500Z".
    """
    return start.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _source_name(source: str) -> str:
    """A source as a part of a file's name: its stem, printable, not hidden and not too long."""
    stem = "".join(c if c.isprintable() else "_" for c in Path(source.replace("\0", "_")).stem).lstrip(".")
    return stem.encode("utf-8", "replace")[:_LONGEST_SOURCE].decode("utf-8", "ignore") or "frame"
