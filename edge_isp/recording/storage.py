"""Where a recorder's files are: their names, when the next one begins, and the budget of their folder."""

from __future__ import annotations

import logging
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from edge_isp.errors import SinkError
from edge_isp.recording.mcap_file import McapFile

_log = logging.getLogger(__name__)

SUFFIX = ".mcap"
_NAME = re.compile(r"\d{8}T\d{6}Z_\d{4,}(_event)?\.mcap")
# Where there is a budget but no size to split at, the budget is shared by this many files.
_FILES_OF_A_BUDGET = 10


class Storage:
    """The files of one recorder.

    Args:
        path: one file, if its name ends in ".mcap"; else a folder, which is made if needed.
        split_bytes: see `RecordingOptions`.
        split_s: see `RecordingOptions`.
        budget_bytes: see `RecordingOptions`.

    Attributes:
        path: see above.
        is_folder: whether files follow each other.
        files: that were begun.

    Raises:
        SinkError: the folder cannot be made, or an option needs a folder.
    """

    def __init__(self, path: Path, split_bytes: int | None, split_s: float | None, budget_bytes: int | None) -> None:
        self.path, self.is_folder = path, path.suffix.lower() != SUFFIX
        self.files: list[Path] = []
        self._split_bytes, self._split_s, self._budget_bytes = split_bytes, split_s, budget_bytes
        if budget_bytes is not None and split_bytes is None:
            self._split_bytes = max(budget_bytes // _FILES_OF_A_BUDGET, 1)
        self._session = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self._number = 0
        self._opened_ns = 0
        self._others: dict[Path, int] = {}  # the folder's other recordings, the oldest first, with their sizes
        if self.is_folder:
            try:
                path.mkdir(parents=True, exist_ok=True)
                self._others = {file: file.stat().st_size for file in sorted(path.iterdir()) if _is_recording(file)}
            except (OSError, ValueError) as error:  # ValueError: a NUL in the path
                raise SinkError(f"{path}: cannot record there: {getattr(error, 'strerror', None) or error}") from error
        elif any(limit is not None for limit in (split_bytes, split_s, budget_bytes)):
            raise SinkError(f"{path}: splitting and a disk budget need a folder; found the name of one file")

    def next_path(self, *, event: bool) -> Path:
        """The path of the next file; no file has it.

        Args:
            event: whether it is of an event, and never deleted.
        """
        if not self.is_folder:
            return self.path
        while True:
            self._number += 1
            path = self.path / f"{self._session}_{self._number:04d}{'_event' if event else ''}{SUFFIX}"
            if not path.exists():
                return path

    def opened(self, path: Path, now_ns: int) -> None:
        """A file was begun.

        Args:
            path: of the file.
            now_ns: CLOCK_MONOTONIC.
        """
        self.files.append(path)
        self._opened_ns = now_ns

    def closed(self, size: int) -> None:
        """The present file is complete.

        Args:
            size: of it, in bytes.
        """
        self._others[self.files[-1]] = size

    def is_due(self, file: McapFile | None, size: int) -> bool:
        """Whether a new file begins before the next message.

        Args:
            file: the present one.
            size: of the message, in bytes.
        """
        if file is None or file.is_empty or not self.is_folder:
            return False
        if self._split_s is not None and time.monotonic_ns() - self._opened_ns >= self._split_s * 1e9:
            return True
        return self._split_bytes is not None and file.size + size > self._split_bytes

    def make_room(self, file: McapFile | None, size: int) -> bool:
        """Deletes the oldest recordings, but those of events, until a message fits into the budget.

        Args:
            file: the present one.
            size: of the message, in bytes.

        Returns:
            Whether it fits.
        """
        if self._budget_bytes is None:
            return True
        used = sum(self._others.values()) + (0 if file is None else file.size) + size
        for path in [path for path in self._others if not _is_event(path)]:
            if used <= self._budget_bytes:
                break
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                _log.warning("%s: cannot be deleted: %s", path, error.strerror or error)
                continue
            used -= self._others.pop(path)
        return used <= self._budget_bytes


def _is_recording(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None and path.is_file()


def _is_event(path: Path) -> bool:
    return path.stem.endswith("_event")
