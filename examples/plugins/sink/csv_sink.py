"""A sink for edge_isp: one line of a CSV file for each detection, or for each picture its mean colour."""

from __future__ import annotations

import csv
from pathlib import Path

from edge_isp import FrameResult, Picture, SinkError


class CsvSink:
    """Writes a table.

    Args:
        path: of the file, which must not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        try:
            self._file = self._path.open("x", newline="", encoding="utf-8")
        except OSError as error:
            raise SinkError(f"{self._path}: cannot be made: {error.strerror}") from error
        self._writer = csv.writer(self._file)
        self._writer.writerow(["source", "frame", "what", "a", "b", "c", "d"])

    def write(self, result: FrameResult) -> None:
        """See `edge_isp.Sink.write`."""
        if self._file.closed:
            raise SinkError(f"{self._path}: the sink is closed")
        found = result.result
        if isinstance(found, Picture):
            rows = [("mean", *found.rgb.mean((0, 1)).round(1).tolist())]
        else:
            rows = [(name, *box) for name, box in zip(found.names, found.xyxy.round(1).tolist(), strict=True)]
        try:
            self._writer.writerows([result.source, result.sequence, *row] for row in rows)
            self._file.flush()
        except OSError as error:
            raise SinkError(f"{self._path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """See `edge_isp.Sink.close`."""
        self._file.close()
