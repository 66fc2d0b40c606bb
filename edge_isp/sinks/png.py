"""Pictures to PNG files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from PIL import Image

from edge_isp.errors import SinkError
from edge_isp.results import Picture


class PngSink:
    """Writes `STEM_000000.png`, the stem of the picture's source and the frame's number in it.

    A file appears under its name only when it is whole.

    Args:
        folder: made if it is not there.

    Raises:
        SinkError: nothing can be written there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise SinkError(f"{self.folder}: cannot write pictures there: {error.strerror}") from error

    def write(self, picture: Picture) -> Path:
        """Writes a picture; returns where.

        Raises:
            SinkError: it could not be written.
        """
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
