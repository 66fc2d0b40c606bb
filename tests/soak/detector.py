"""A detector that streams for as long as one likes from a camera that fails: nothing may grow, every frame counts.

    python -m tests.soak.detector --minutes 30

Frames of 1280x720 at 30 frames a second come from a simulated camera; every 10 s on average it loses frames, delivers
damaged or late ones, or goes away and comes back. `test_detector.py` runs the same for a few seconds. The exit status
is 1 where memory grew by more than 2 MB after the first minute, where file descriptors or threads are left, or where a
count is not exact.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from edge_isp.cameras.faults import Corrupt, Disconnect, Drop, Fault, FaultScript, Late, Truncate
from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.pipeline.drops import DropReason, Event, FrameCounts, FramesDropped, PipelineState
from edge_isp.pipeline.options import ModelOptions, StreamOptions
from edge_isp.pipeline.pipeline import Pipeline
from edge_isp.pipeline.reconnect import ReconnectPolicy

FPS = 30
FAULT_EVERY_S = 10
GROWTH_BYTES = 2_000_000
# A frame more or less may be under way: what is held is the least of that many moments, one at each result.
MOMENTS = 20


@dataclass(frozen=True)
class Held:
    """What the process holds.

    Attributes:
        memory_bytes: of its own; pages of files are the system's, which takes and gives them as it likes.
        descriptors: open files.
        threads: of Python.
    """

    memory_bytes: int
    descriptors: int
    threads: int

    @staticmethod
    def now() -> Held:
        status = Path("/proc/self/status").read_text()
        memory_bytes = sum(1024 * int(each) for each in re.findall(r"Rss(?:Anon|Shmem):\s*(\d+)", status))
        return Held(memory_bytes, len(os.listdir("/proc/self/fd")), threading.active_count())

    @staticmethod
    def least(moments: list[Held]) -> Held:
        """The least memory, and the most of everything else."""
        return Held(
            min(held.memory_bytes for held in moments),
            max(held.descriptors for held in moments),
            max(held.threads for held in moments),
        )


@dataclass(frozen=True)
class Soak:
    """What was seen.

    Attributes:
        held: by the process while the camera ran, first after the warm-up, then after each period.
        before: the pipeline was made, and after: it was closed.
        counts: of all frames.
        delivered: results that were read.
        reported: frames of `FramesDropped` events.
        restarts: how often the camera came back.
    """

    held: list[Held]
    before: Held
    after: Held
    counts: FrameCounts
    delivered: int
    reported: int
    restarts: int

    def problems(self) -> Iterator[str]:
        """What is not as it should be."""
        counts = self.counts
        if counts.frames != counts.delivered + counts.skipped + sum(counts.dropped.values()):
            yield f"frames that are not accounted for: {counts}"
        if counts.in_flight:
            yield f"{counts.in_flight} frames are still in flight"
        if counts.delivered != self.delivered:
            yield f"{self.delivered} results were read, and {counts.delivered} are counted as delivered"
        if sum(counts.dropped.values()) != self.reported:
            yield f"{self.reported} lost frames were reported, and {dict(counts.dropped)} are counted"
        if counts.dropped.get(DropReason.ENGINE_ERROR):
            yield "the engine failed"
        for name in ("descriptors", "threads"):
            held = [getattr(one, name) for one in self.held]
            if max(held) != held[0]:
                yield f"{name} while it ran: {held}"
            if getattr(self.after, name) > getattr(self.before, name):
                yield f"{name} left: {getattr(self.before, name)} before, {getattr(self.after, name)} after"
        grown = max(one.memory_bytes for one in self.held) - self.held[0].memory_bytes
        if grown > GROWTH_BYTES:
            yield f"memory grew by {grown / 1e6:.1f} MB: {[round(one.memory_bytes / 1e6, 1) for one in self.held]}"


def faults(frames: int, random: Random) -> Iterator[Fault]:
    """One fault every ten seconds on average, for as many frames."""
    frame = 2 * FPS
    while frame < frames:
        kind = random.randrange(5)
        if kind == 0:
            yield Drop(frame, random.randint(1, 20))
        elif kind == 1:
            yield Late(frame, random.randint(1, 200) * 1_000_000)
        elif kind == 2:
            yield Truncate(frame, random.randint(0, 1280 * 720))
        elif kind == 3:
            yield Corrupt(frame)
        else:
            yield Disconnect(frame, failed_openings=random.randint(0, 2))
        frame += 21 + round(random.expovariate(1 / (FAULT_EVERY_S * FPS - 21)))


def soak(
    *, warm_up_s: float, period_s: float, periods: int, seed: int = 0, width: int = 1280, height: int = 720
) -> Soak:
    """Streams for the warm-up and some periods; see `Soak`."""
    reported = 0

    def on_event(event: Event) -> None:
        nonlocal reported
        if isinstance(event, FramesDropped):
            reported += event.frames

    duration_s = warm_up_s + period_s * periods
    script = FaultScript(faults(round(2 * duration_s * FPS), Random(seed)))
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.png"
        noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((width, height)).save(photo)

        def opened() -> SyntheticCamera:
            return SyntheticCamera(photo, width=width, height=height, fps=FPS, faults=script)

        before = Held.now()
        stream = StreamOptions(on_event=on_event, reconnect=ReconnectPolicy(first_wait_s=0.2))
        pipeline = Pipeline(opened, ModelOptions("raw-detector"), stream)
        held: list[Held] = []
        moments: list[Held] = []
        delivered = 0
        next_s = time.monotonic() + warm_up_s
        for _ in pipeline:
            delivered += 1
            if time.monotonic() >= next_s and pipeline.state is PipelineState.RUNNING:
                if not moments:
                    gc.collect()
                now = Held.now()
                if pipeline.state is PipelineState.RUNNING:  # a camera that is being opened holds more
                    moments.append(now)
                if len(moments) < MOMENTS:
                    continue
                held.append(Held.least(moments))
                moments.clear()
                print(f"{len(held) - 1:3} {held[-1]}", flush=True)
                next_s += period_s
                if len(held) > periods:
                    pipeline.stop()
        counts, restarts = pipeline.counts, pipeline.restarts
        pipeline.close()
    return Soak(held, before, Held.now(), counts, delivered, reported, restarts)


def return_large_arrays_at_once() -> None:
    """Fixes glibc's threshold for memory of its own pages, as `examples/edge-isp.service` does.

    Else glibc raises it with the first large array that is freed; from then on the place that such arrays find, and
    with it the memory of the process, varies by tens of megabytes, whatever the process holds.
    """
    mmap_threshold = -3
    if not ctypes.CDLL(None).mallopt(mmap_threshold, 1 << 20):
        raise SystemExit("the allocator's threshold cannot be set, and memory would not say what is held")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    return_large_arrays_at_once()
    seen = soak(warm_up_s=60, period_s=60, periods=arguments.minutes - 1, seed=arguments.seed)
    print(f"{seen.counts}, camera reopened {seen.restarts} times")
    print(f"before: {seen.before}\nafter:  {seen.after}")
    problems = list(seen.problems())
    print("\n".join(problems) or "nothing grew, every frame is accounted for")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
