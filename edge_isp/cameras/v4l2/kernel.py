"""The calls to the kernel that V4L2 cameras are made of; tests put a kernel of their own in their place."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import re
import select
from pathlib import Path


def open_device(path: str) -> int:
    """A file descriptor of a device node.

    Args:
        path: of the node.

    Raises:
        OSError: as `open`.
    """
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def close_device(descriptor: int) -> None:
    """Closes a file descriptor of `open_device`.

    Args:
        descriptor: of the node.
    """
    os.close(descriptor)


def ioctl(descriptor: int, request: int, argument: ctypes.Structure | ctypes.c_int32) -> None:
    """One request, begun again where a signal interrupts it; the kernel's answer is in `argument`.

    Args:
        descriptor: of the node.
        request: the request's number.
        argument: structure that the kernel reads and fills.

    Raises:
        OSError: as `ioctl`, except for EINTR.
    """
    while True:
        try:
            fcntl.ioctl(descriptor, request, argument, True)
        except InterruptedError:
            continue
        return


def write_device(descriptor: int, content: memoryview) -> int:
    """Writes a frame to a device that takes video; returns the number of bytes that the driver took.

    Args:
        descriptor: of the node.
        content: of the frame.

    Raises:
        OSError: as `write`.
    """
    return os.write(descriptor, content)


def map_buffer(descriptor: int, length: int, offset: int) -> memoryview:
    """A driver's buffer, to be read only. It is unmapped when the last view of it is gone.

    Args:
        descriptor: of the node.
        length: in bytes.
        offset: that the driver gave for the buffer.

    Raises:
        OSError: as `mmap`.
    """
    return memoryview(mmap.mmap(descriptor, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset))


def wait_readable(descriptor: int, wake_descriptor: int, timeout_s: float | None) -> bool:
    """Whether the device has something to say (a frame or an error) within a time; None waits for ever.

    False where the time is over, or something was written to `wake_descriptor`.

    Args:
        descriptor: of the node.
        wake_descriptor: of an eventfd.
        timeout_s: longest time to wait, in seconds; None waits without a limit.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(wake_descriptor, select.POLLIN)
    ready = poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000)
    return any(found == descriptor for found, _ in ready)


def nodes(kind: str) -> list[str]:
    """Paths of the machine's device nodes of a kind ("video", "media"), by number.

    Args:
        kind: "video" or "media".
    """
    numbers = (re.fullmatch(rf"{kind}(\d+)", name) for name in os.listdir("/dev"))
    return [f"/dev/{kind}{number}" for number in sorted(int(match.group(1)) for match in numbers if match)]


def node_of(major: int, minor: int) -> str | None:
    """Path of the device node of a device number, None where there is none.

    Args:
        major: of the device number.
        minor: of the device number.
    """
    try:
        lines = Path(f"/sys/dev/char/{major}:{minor}/uevent").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    names = [line.removeprefix("DEVNAME=") for line in lines if line.startswith("DEVNAME=")]
    return f"/dev/{names[0]}" if names else None


def node_name(path: str) -> str:
    """What the driver calls a V4L2 device node ("imx219 10-0010"); empty where it has no name.

    Args:
        path: of the node.
    """
    try:
        return Path("/sys/class/video4linux", Path(path).name, "name").read_text("utf-8", "replace").strip()
    except OSError:
        return ""
