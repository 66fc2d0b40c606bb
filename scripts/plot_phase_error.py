"""Draws docs/images/phase-error.png: cameras with drifting clocks, whose frames `pair` brings together.

python scripts/plot_phase_error.py
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp import pair
from edge_isp.cameras.base import Controls
from edge_isp.frame import FrameStatus

FPS = 30.0
PERIOD_NS = 1e9 / FPS
JITTER_NS = 20_000
# Of the followers' clocks, as a part of a second, and where in the leader's period they start.
CAMERAS = ((50e-6, 0.25), (-200e-6, 0.49), (100e-6, -0.3))
FRAMES = 3000


class Timeline:
    """Lets simulated cameras deliver in the order of their frames, in no time.

    Attributes:
        changed: held while the next frames change.
        next_ns: when each camera's next frame is exposed.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.next_ns: dict[object, float] = {}


class DriftingCamera:
    """A camera whose clock drifts and jitters, and whose frame period takes effect two frames after it is set.

    Args:
        timeline: shared by all cameras.
        drift: of its clock, as a part of a second.
        phase: of its first frame, in periods.
        frames: until it ends.
        seed: of the jitter.
    """

    live = False  # frames wait for those who pair them

    def __init__(self, timeline: Timeline, drift: float, phase: float, frames: int, seed: int) -> None:
        self._timeline, self._drift, self._frames = timeline, drift, frames
        self._random = np.random.default_rng(seed)
        self._periods_ns = [PERIOD_NS] * 2
        self._number, self._now_ns = 0, 1e9 + phase * PERIOD_NS
        timeline.next_ns[self] = self._now_ns

    def control(self, controls: Controls) -> None:
        """See `Camera.control`; only the frame rate can be set."""
        assert controls.names() == ["fps"]
        assert controls.fps is not None
        with self._timeline.changed:
            self._periods_ns.append(1e9 / controls.fps)

    def read(self, timeout_s: float | None = None) -> Any:
        """The next frame, when it is the earliest of all cameras."""
        with self._timeline.changed:
            due = self._timeline.changed.wait_for(
                lambda: self._now_ns <= min(self._timeline.next_ns.values()), timeout_s
            )
            if not due:
                raise TimeoutError
            if self._number == self._frames:
                self._timeline.next_ns.pop(self, None)
                self._timeline.changed.notify_all()
                return None
            stamp_ns = self._now_ns + self._random.normal(0, JITTER_NS)
            frame = SimpleNamespace(sequence=self._number, timestamp_ns=round(stamp_ns), status=FrameStatus.OK)
            period_ns = self._periods_ns.pop(0) if len(self._periods_ns) > 1 else self._periods_ns[0]
            self._number += 1
            self._now_ns += period_ns * (1 + self._drift)
            self._timeline.next_ns[self] = self._now_ns
            self._timeline.changed.notify_all()
            return frame


def phase_errors_ms(
    cameras: Sequence[tuple[float, float]], frames: int, synchronise_fps: float | None
) -> NDArray[np.float64]:
    """Phase errors of followers of an exact leader, a row for each pair.

    Args:
        cameras: drift and phase of each follower.
        frames: of each camera.
        synchronise_fps: see `pair`.
    """
    timeline = Timeline()
    leader = DriftingCamera(timeline, 0.0, 0.0, frames, seed=1)
    followers = [DriftingCamera(timeline, *camera, frames, seed) for seed, camera in enumerate(cameras, 2)]
    with pair([leader, *followers], tolerance_s=0.0165, synchronise_fps=synchronise_fps) as pairs:
        rows = [[item.timestamp_ns - found.items[0].timestamp_ns for item in found.items[1:]] for found in pairs]
    return np.array(rows) / 1e6


def main() -> None:
    from matplotlib import pyplot

    images = Path(__file__).parents[1] / "docs" / "images"
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    settled = phase_errors_ms(CAMERAS, FRAMES, FPS)
    for place, (drift, phase) in enumerate(CAMERAS):
        errors = settled[:, place]
        seconds = np.arange(len(errors)) / FPS
        label = f"{drift * 1e6:+.0f} ppm, from {phase:+.2f} periods"
        above.plot(seconds, errors, label=label, linewidth=1)
        below.plot(seconds, np.abs(errors), label=label, linewidth=0.5)
        late = np.abs(errors[len(errors) // 4 :])
        print(f"{label}: 99 % within {np.percentile(late, 99):.3f} ms, at most {late.max():.3f} ms")
    above.set_ylabel("phase error in ms")
    above.legend(title="clock of the follower")
    above.set_title(f"pair(..., synchronise_fps={FPS:.0f}): simulated cameras, jitter {JITTER_NS / 1000:.0f} µs")
    below.set_ylabel("absolute error in ms")
    below.set_yscale("log")
    below.set_ylim(1e-3, 20)
    below.set_xlabel("time in s")
    figure.savefig(images / "phase-error.png", dpi=100)


if __name__ == "__main__":
    main()
