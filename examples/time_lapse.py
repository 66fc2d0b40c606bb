"""A time-lapse: one picture a minute, by the sensor's time, as JPEG files that are never overwritten.

python examples/time_lapse.py picamera2:0,fps=5 pictures

The model runs for the frames that are kept only (`max_fps`), so that a board stays cool for months.
"""

from __future__ import annotations

import sys

from edge_isp import ModelOptions, Pipeline, StreamOptions, open_camera, open_sink


def main(camera: str, folder: str, interval_s: float = 60) -> None:
    stream = StreamOptions(max_fps=1 / interval_s)
    with Pipeline(lambda: open_camera(camera), ModelOptions("rfdcsanet-s"), stream) as pipeline:
        pipeline.add_sink(open_sink(f"jpeg:{folder}"))
        pipeline.run()
        print(pipeline.counts)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:]))
