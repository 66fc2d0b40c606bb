"""Two cameras, one model, and the results of the same moment together.

python examples/two_cameras.py picamera2:0,fps=30 picamera2:1,fps=30

Each camera has a pipeline of its own. Results are paired by the time of the sensors; each one that stays alone has its
reason. Cameras that are not synchronised drift through all phases: see "Pairs of several cameras" in docs/streaming.md.
"""

from __future__ import annotations

import itertools
import sys
from functools import partial

from edge_isp import ModelOptions, Pipeline, open_camera, pair

TOLERANCE_S = 0.015  # less than half the frame period


def main(left: str, right: str, pairs: int | None = None) -> None:
    model = ModelOptions("rfdcsanet-s", threads=1)
    with (
        Pipeline(partial(open_camera, left), model) as a,
        Pipeline(partial(open_camera, right), model) as b,
        pair([a, b], tolerance_s=TOLERANCE_S) as found,
    ):
        for together in itertools.islice(found, pairs):
            first, second = together.items
            print(f"{first.sequence} and {second.sequence}: {together.spread_ns / 1e6:.1f} ms apart")
        for name, counts in zip(("left", "right"), found.unpaired, strict=True):
            print(name, "alone:", {str(reason): count for reason, count in counts.items()})
        for pipeline in (a, b):
            print(pipeline.counts)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
