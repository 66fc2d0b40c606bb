"""Develop a RAW recording and show what each stage costs.

python examples/develop_recording.py frames/scene.raw pictures
"""

from __future__ import annotations

import sys

from edge_isp import Pipeline, PngSink, ReplayCamera


def main(recording: str, folder: str) -> None:
    sink = PngSink(folder)
    with Pipeline(ReplayCamera(recording)) as pipeline:
        for done in pipeline:
            stages = "  ".join(f"{stage} {duration_ns / 1e6:.2f} ms" for stage, duration_ns in done.stages_ns.items())
            print(f"{sink.save(done.picture)}  {stages}")


if __name__ == "__main__":
    main(*sys.argv[1:])
