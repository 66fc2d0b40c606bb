"""Files of compiled kernels in the user's cache folder.

Nothing here may stop a program: a file that cannot be read or is damaged counts as missing, and where nothing can be
written that is said once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
import uuid
from pathlib import Path

_log = logging.getLogger(__name__)

# Folders that nobody has used for this long belong to old versions; temporary files of this age to killed processes.
_KEEP_FOLDERS_S = 30 * 24 * 3600
_KEEP_TEMPORARY_S = 3600
_DIGEST_BYTES = 32

# Of the folder in the cache folder; and of those in it, one for each version.
_NAME = "compiled-kernels"
_KEY = re.compile("[0-9a-f]{32}")


def cache_folder() -> Path | None:
    """The folder for compiled kernels of all versions, which may not exist yet.

    The first of: `$EDGE_ISP_CACHE`; `$CACHE_DIRECTORY`, which systemd sets for a service with `CacheDirectory=`;
    `$XDG_CACHE_HOME/edge_isp`; `~/.cache/edge_isp`.

    Returns:
        None where there is no home folder either.
    """
    if own := os.environ.get("EDGE_ISP_CACHE"):
        return Path(own) / _NAME
    if service := os.environ.get("CACHE_DIRECTORY"):
        return Path(service.split(":")[0]) / _NAME
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):  # the XDG specification has relative paths ignored
        return Path(shared) / "edge_isp" / _NAME
    home = os.path.expanduser("~")
    return Path(home) / ".cache" / "edge_isp" / _NAME if os.path.isabs(home) else None


class Store:
    """The files of one version of the kernels for one processor.

    Args:
        folder: where they are; made when the first is written. None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._written = False
        self._given_up = False
        if folder:
            _touch(folder)

    @classmethod
    def open(cls, key: str) -> Store:
        """The store of a version in the user's cache folder.

        Args:
            key: names the version and the processor: the sub-folder's name.
        """
        folder = cache_folder()
        return cls(folder / key if folder else None)

    def read(self, name: str) -> bytes | None:
        """What was written under a name; None where there is nothing, or not what was written."""
        if self._folder is None:
            return None
        try:
            content = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.info("a compiled kernel cannot be read and is compiled again: %s", error)
            return None
        data = content[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != content[:_DIGEST_BYTES]:
            _log.info("a compiled kernel is damaged and is compiled again: %s", self._folder / name)
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Keeps data under a name: after a power cut it is there as a whole, or what was there before.

        Where that cannot be done, one warning says so, and no other file is tried.
        """
        if self._given_up:
            return
        if self._folder is None:
            self._give_up("there is no home folder")
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._written:
                _remove_old(self._folder)
                self._written = True
            _write_atomically(self._folder / name, hashlib.sha256(data).digest() + data)
        except OSError as error:
            self._give_up(str(error))

    def _give_up(self, reason: str) -> None:
        self._given_up = True
        _log.warning(
            "compiled kernels cannot be kept, so that every start compiles them again (%s); "
            "set EDGE_ISP_CACHE to a folder that can be written",
            reason,
        )


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _touch(folder: Path) -> None:
    """Marks a folder as used, so that it is not removed as old."""
    try:
        os.utime(folder)
    except OSError:
        return  # not there yet, or not ours to write


def _remove_old(folder: Path) -> None:
    """Removes what killed processes left in a folder, and the folders of versions that are no longer used."""
    now = time.time()
    for path in folder.glob("*.tmp"):
        if now - _last_change(path, now) > _KEEP_TEMPORARY_S:
            path.unlink(missing_ok=True)
    for path in folder.parent.iterdir():
        if _KEY.fullmatch(path.name) and now - _last_change(path, now) > _KEEP_FOLDERS_S:
            shutil.rmtree(path, ignore_errors=True)


def _last_change(path: Path, otherwise: float) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process was faster
        return otherwise
