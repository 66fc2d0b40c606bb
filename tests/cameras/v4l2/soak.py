"""A day of frames through the cameras, on a simulated clock: file descriptors, threads and memory must stay.

    python -m tests.cameras.v4l2.soak            # 24 hours at 60 frames a second: 5 184 000 frames of the V4L2 camera

`test_soak.py` runs the same over fewer frames. What is real: our camera, with every lease, structure and request. What
is not: the kernel (see `fake_kernel.py`) and the time.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

from edge_isp.cameras.base import Camera
from edge_isp.cameras.v4l2 import kernel as v4l2_kernel
from edge_isp.cameras.v4l2.camera import V4l2Camera
from edge_isp.errors import CameraDisconnectedError
from edge_isp.frame import FrameStatus

FPS = 60
MINUTE = 60 * FPS
DAY = 24 * 60 * MINUTE


@dataclass(frozen=True)
class PipelineState:
    """What a process holds; memory in bytes."""

    descriptors: int
    threads: int
    python_bytes: int
    resident_bytes: int

    @staticmethod
    def now() -> PipelineState:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        python_bytes = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
        resident = pages * os.sysconf("SC_PAGE_SIZE")
        return PipelineState(len(os.listdir("/proc/self/fd")), threading.active_count(), python_bytes, resident)


def read_frames(camera: Camera, count: int) -> int:
    """Reads so many frames, holding two at a time; returns how many are missing in their numbers."""
    lost = 0
    last = None
    held = None
    for _ in range(count):
        frame = camera.read(timeout_s=10)
        assert frame is not None
        if last is not None:
            lost += frame.sequence - last - 1
            assert (FrameStatus.GAP in frame.status) == (frame.sequence > last + 1)
        last = frame.sequence
        if held is not None:
            held.release()
        held = frame
    if held is not None:
        held.release()
    return lost


def soak_v4l2(kernel: object, frames: int) -> tuple[PipelineState, PipelineState]:
    """Frames of the V4L2 camera, with a camera that is unplugged and comes back once an hour.

    Returns:
        what the process held after the first minute, and at the end.
    """
    from tests.cameras.v4l2.fake_kernel import FakeKernel, VideoNode

    assert isinstance(kernel, FakeKernel)
    node = kernel.add(VideoNode(period_ns=round(1e9 / FPS), sizes=((32, 16),), rates=(FPS,)))
    node.sequence = 2**32 - 10 * MINUTE  # it overflows on the way

    def opened() -> V4l2Camera:
        return V4l2Camera(0, black_level=0, fps=FPS)

    camera = opened()
    read_frames(camera, MINUTE)
    after_a_minute = PipelineState.now()
    done = MINUTE
    while done < frames:
        count = min(60 * MINUTE, frames - done)
        assert read_frames(camera, count) == 0
        done += count
        node.gone = True
        try:
            camera.read(timeout_s=1)
        except CameraDisconnectedError:
            camera.close()
        node.gone = False
        camera = opened()
    read_frames(camera, 10)
    at_the_end = PipelineState.now()
    camera.close()
    return after_a_minute, at_the_end


def main() -> None:
    from tests.cameras.v4l2.fake_kernel import FakeKernel

    kernel = FakeKernel()
    for name in kernel.FUNCTIONS:
        setattr(v4l2_kernel, name, getattr(kernel, name))
    begun_s = time.monotonic()
    before, after = soak_v4l2(kernel, DAY)
    print(f"{DAY} frames (24 h at {FPS}/s, simulated) in {time.monotonic() - begun_s:.0f} s of real time")
    print(f"after a minute: {before}\nat the end:     {after}")
    grown = after.resident_bytes - before.resident_bytes
    print(f"resident memory grew by {grown / 1024:.0f} KiB")
    if (after.descriptors, after.threads) != (before.descriptors, before.threads) or grown > 1 << 20:
        sys.exit("something leaks")


if __name__ == "__main__":
    main()
