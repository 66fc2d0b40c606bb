"""Steer a motor towards the nearest person, and stop when what is seen is too old.

python examples/steer_motor.py picamera2:0,fps=30

A control loop runs at its own rate. It asks for the newest result, never waits for one, and decides by the result's
age at that moment: the age counts from the start of exposure. When the camera, the model or the NPU is late, the motor
stops.
"""

from __future__ import annotations

import itertools
import sys
import time

from edge_isp import DeadlineMissed, FrameResult, ModelOptions, Pipeline, StreamOptions, open_camera

MAX_AGE_S = 0.25
LOOP_S = 0.02  # 50 decisions a second


def main(camera: str, decisions: int | None = None) -> None:
    stream = StreamOptions(max_age_s=MAX_AGE_S, on_event=report)
    newest: FrameResult | None = None
    with Pipeline(lambda: open_camera(camera), ModelOptions("raw-detector"), stream) as pipeline:
        pipeline.start()
        for _ in itertools.count() if decisions is None else range(decisions):
            newest = pipeline.newest() or newest
            fresh = newest is not None and newest.age_ns < MAX_AGE_S * 1e9
            set_speed(*(speeds(newest) if newest is not None and fresh else (0.0, 0.0)))
            time.sleep(LOOP_S)
    set_speed(0.0, 0.0)


def speeds(result: FrameResult) -> tuple[float, float]:
    """Speeds of the left and the right wheel, -1 to 1: towards the largest person, and slower the nearer it is."""
    found = result.detections
    people = [box for box, name in zip(found.xyxy.tolist(), found.names, strict=True) if name == "person"]
    if not people or found.size is None:
        return 0.0, 0.0
    left, top, right, bottom = max(people, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    turn = (left + right) / found.size[0] - 1  # -1 at the left edge, 1 at the right one
    ahead = max(0.0, 1 - (bottom - top) / found.size[1])
    return clamped(ahead + turn / 2), clamped(ahead - turn / 2)


def clamped(speed: float) -> float:
    """What a motor can do."""
    return min(max(speed, -1.0), 1.0)


def set_speed(left: float, right: float) -> None:
    """The motor's driver comes here."""
    print(f"{left:+.2f} {right:+.2f}")


def report(event: object) -> None:
    """Called when no result is young enough, once until there is one again."""
    if isinstance(event, DeadlineMissed):
        print(f"the newest result is {event.age_ns / 1e6:.0f} ms old")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
