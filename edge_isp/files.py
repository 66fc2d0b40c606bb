"""Files: read whole and only if they are files, written whole and under a name that no other file loses.

A file that is being written has a name that begins with a dot and ends in ".unfinished", and its writer holds a lock on
it. What a killed process left is thereby known for certain, and `remove_unfinished` deletes it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from edge_isp.errors import EdgeIspError

_log = logging.getLogger(__name__)

# The largest models for NPUs are far smaller.
LARGEST_MODEL_BYTES = 1 << 29

_PREFIX, _SUFFIX = ".edge-isp-", ".unfinished"

# What a file system without hard links (FAT, exFAT) says of `link`.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)


def read_file(path: str | Path, error: type[EdgeIspError], largest_bytes: int) -> bytes:
    """The content of a regular file.

    Args:
        path: of the file.
        error: what a fault is reported as.
        largest_bytes: a larger file is refused before it is read.

    Raises:
        EdgeIspError: of the type `error`: there is no such file, it is a folder, a pipe or a device, it is too large,
            or it cannot be read.
    """
    shown = str(path).replace("\0", "\\0")
    try:
        # A pipe without a writer would keep its reader waiting for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise error(f"{shown}: cannot be read: expected a file, found {_kind(found.st_mode)}")
            if found.st_size > largest_bytes:
                raise error(f"{shown}: larger than {largest_bytes} bytes: found {found.st_size}")
            content = file.read(largest_bytes + 1)
    except OSError as fault:
        raise error(f"{shown}: cannot be read: {fault.strerror or fault}") from fault
    except ValueError as fault:  # from a NUL in the path
        if isinstance(fault, EdgeIspError):
            raise
        raise error(f"{shown}: cannot be read: a path must not hold a NUL character") from None
    if len(content) > largest_bytes:  # it grew, or is one of the kernel's files, which have no size
        raise error(f"{shown}: larger than {largest_bytes} bytes")
    return content


def files_of(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of a folder, sorted by name; what is hidden or no file is passed over with a warning.

    File managers and editors leave "._name.dng" and the like beside the real ones.

    Args:
        folder: that is searched, without those in it.
        suffixes: that files may end in, in lower case with their dots.
    """
    files = []
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes):
        if file.name.startswith(".") or not file.is_file():
            _log.warning("%s: passed over: %s", file, "a hidden file" if file.is_file() else "not a file")
        else:
            files.append(file)
    return files


def check_regular(path: str | Path, error: type[EdgeIspError]) -> None:
    """Refuses what is no regular file, before a library opens it by its path.

    Args:
        path: of the file.
        error: what a fault is reported as.

    Raises:
        EdgeIspError: of the type `error`: there is no such file, or it is a folder, a pipe or a device.
    """
    shown = str(path).replace("\0", "\\0")
    try:
        mode = os.stat(path).st_mode
    except OSError as fault:
        raise error(f"{shown}: cannot be read: {fault.strerror or fault}") from fault
    except ValueError:
        raise error(f"{shown}: cannot be read: a path must not hold a NUL character") from None
    if not stat.S_ISREG(mode):
        raise error(f"{shown}: cannot be read: expected a file, found {_kind(mode)}")


def write_file(path: Path, content: bytes, *, overwrite: bool) -> None:
    """Writes a file whole or not at all; it is on the disk when this returns.

    Args:
        path: of the file; its folder must exist.
        content: of the file.
        overwrite: whether it may take the place of another file.

    Raises:
        FileExistsError: there is a file of that name, and `overwrite` is false.
        OSError: it cannot be written.
    """
    with ExitStack() as stack:
        name = _write_unfinished(stack, path.parent, content)
        if overwrite:
            os.replace(name, path)
        else:
            _rename_exclusively(name, path)
    _sync_folder(path.parent)


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """Writes files that belong together, in the place of older ones; they are on the disk when this returns.

    Each is complete before the first of them gets its name. What killed processes left in their folders is deleted.

    Args:
        contents: of the files, in the order in which they get their names; their folders must exist.

    Raises:
        OSError: one cannot be written.
    """
    folders = {path.parent for path in contents}
    for folder in folders:
        remove_unfinished(folder)
    with ExitStack() as stack:
        names = {path: _write_unfinished(stack, path.parent, content) for path, content in contents.items()}
        for path, name in names.items():
            os.replace(name, path)
    for folder in folders:
        _sync_folder(folder)


def write_new(folder: Path, stem: str, suffix: str, content: bytes) -> Path:
    """Writes a file under a name of its own: STEM.SUFFIX or, where that name is taken, STEM_2.SUFFIX and so on.

    Args:
        folder: that it stands in; must exist.
        stem: of its name.
        suffix: of its name, with the dot.
        content: of the file.

    Returns:
        Path of the file.

    Raises:
        OSError: it cannot be written.
    """
    number = 1
    while True:
        path = folder / f"{stem}{f'_{number}' if number > 1 else ''}{suffix}"
        number += 1
        if os.path.lexists(path):
            continue
        try:
            write_file(path, content, overwrite=False)
        except FileExistsError:
            continue
        return path


def remove_unfinished(folder: Path) -> None:
    """Deletes what killed processes left in a folder; files that are being written stay.

    Args:
        folder: to clean; what cannot be deleted stays.

    Raises:
        OSError: the folder cannot be read.
    """
    for entry in os.scandir(folder):
        if not (entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX)):
            continue
        try:
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # another process has finished or deleted it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(entry.path)
        except OSError:
            continue  # its writer is at work, or the folder is not ours
        finally:
            os.close(descriptor)


def _open_unfinished(folder: Path) -> tuple[int, str]:
    """Descriptor and name of a new file, which is locked."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=_PREFIX, suffix=_SUFFIX, dir=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Another process may have taken it for a killed one's just before it was locked.
            if os.fstat(descriptor).st_nlink:
                os.fchmod(descriptor, 0o666 & ~_umask())
                return descriptor, name
        except BaseException:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)
            raise
        os.close(descriptor)


def _write_unfinished(stack: ExitStack, folder: Path, content: bytes) -> str:
    """Name of a new file on the disk; without another name it is deleted with the stack."""
    descriptor, name = _open_unfinished(folder)
    stack.callback(Path(name).unlink, missing_ok=True)
    file = stack.enter_context(os.fdopen(descriptor, "wb"))
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
    return name


def _rename_exclusively(name: str, path: Path) -> None:
    """Gives a file its name; FileExistsError where there is a file of that name."""
    try:
        os.link(name, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        os.replace(name, path)
    else:
        os.unlink(name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without the idea
            raise
    finally:
        os.close(descriptor)


def _umask() -> int:
    """The process's mask of permissions, read without setting it where Linux shows it."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    return 0o022


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe (FIFO)"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for test, name in kinds if test(mode)), "something else")
