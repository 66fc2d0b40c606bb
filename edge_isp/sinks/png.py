"""Pictures to PNG files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from PIL import Image

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import SinkError
from edge_isp.results import FrameResult, Picture
from edge_isp.sinks.annotate import annotate
from edge_isp.tasks.classical import ClassicalIsp


class PngSink:
    """Writes each picture as `STEM_000000.png`, from the stem of its source and its frame's number.

    Detections are drawn on a picture of their frame, see `annotate`. A file appears under its name only when it is
    complete.

    Args:
        folder: made if it does not exist.
        profile: of the sensor, for pictures that detections are drawn on; None is the shipped profile of the frame's
            sensor.

    Attributes:
        folder: of the files.
        needs_raw: see `Sink`.

    Raises:
        SinkError: nothing can be written to the folder.
    """

    needs_raw = True

    def __init__(self, folder: str | Path, *, profile: SensorProfile | None = None) -> None:
        self.folder = Path(folder)
        self._developer = ClassicalIsp(profile)
        self._closed = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise SinkError(f"{self.folder}: cannot write pictures there: {error.strerror}") from error

    def write(self, result: FrameResult) -> None:
        """Writes the result's picture, or its detections on a picture of their frame.

        Args:
            result: of a model that makes pictures, or with `raw`.

        Raises:
            SinkError: it cannot be written, or the sink is closed.
        """
        self._check_open()  # before there is anything to draw
        self.save(annotate(result, self._developer))

    def save(self, picture: Picture) -> Path:
        """Writes a picture.

        Args:
            picture: whose source and sequence make the file's name.

        Returns:
            Path of the file.

        Raises:
            SinkError: it cannot be written, or the sink is closed.
        """
        self._check_open()
        path = self.folder / f"{Path(picture.source).stem}_{picture.sequence:06d}.png"
        unfinished = path.with_suffix(".png.unfinished")
        try:
            # Level 1 is several times as fast as the default, and a tenth larger.
            Image.fromarray(picture.rgb).save(unfinished, format="PNG", compress_level=1)
            os.replace(unfinished, path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise SinkError(f"{path}: cannot be written: {error.strerror or error}") from error
        return path

    def close(self) -> None:
        """Ends the writing; every file is already complete. Idempotent."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise SinkError(f"{self.folder}: the sink is closed")
