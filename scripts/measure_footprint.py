"""Measures disk, memory and start-up time of an installation, for docs/decisions/0011-numba-stays.md.

    python scripts/measure_footprint.py [--model NAME] [--runs N]

Each run is a process of its own. Shown are the least time of the runs and the memory of the last one. Compiled
kernels come from the cache, which a first run fills.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

_STAGES = """
import json, sys, time
begin = time.perf_counter()
figures = {}

def note(stage):
    kb = {line.split(":")[0]: int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("Vm")}
    seconds, resident, peak = time.perf_counter() - begin, kb["VmRSS"], kb["VmHWM"]
    figures[stage] = {"s": round(seconds, 2), "mb": round(resident / 1000), "peak_mb": round(peak / 1000)}

note("python")
import edge_isp
note("import edge_isp")
import numpy
note("and numpy")
import numba
note("and numba")
from ai_edge_litert.interpreter import Interpreter
note("and LiteRT")
from edge_isp import Pipeline, SyntheticCamera
from edge_isp.cameras.spec import demo_scene
note("and Pipeline")
open_camera = lambda: SyntheticCamera(demo_scene(), width=640, height=480, fps=None, frames=50)
with Pipeline(open_camera, sys.argv[1]) as pipeline:
    for number, result in enumerate(pipeline):
        if not number:
            note("first result")
    note("fiftieth result")
print(json.dumps(figures))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rfdcsanet-t", metavar="NAME")
    parser.add_argument("--runs", type=int, default=3, metavar="N")
    options = parser.parse_args()
    print("| Package | On the disk, MB |\n|---|---|")
    folder = Path(sysconfig.get_path("purelib"))
    sizes = {each.name: size_mb(each) for each in folder.iterdir()}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:10]:
        print(f"| {name} | {size:.0f} |")
    print(f"| all | {sum(sizes.values()):.0f} |\n")
    runs = [stages(options.model) for _ in range(options.runs + 1)][1:]
    print("| After | s | resident, MB | peak, MB |\n|---|---|---|---|")
    for stage, figures in runs[-1].items():
        least = min(run[stage]["s"] for run in runs)
        print(f"| {stage} | {least:.2f} | {figures['mb']} | {figures['peak_mb']} |")


def size_mb(path: Path) -> float:
    """What a file or a folder takes, links not followed."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir()) / 1e6


def stages(model: str) -> dict[str, dict[str, float]]:
    """Seconds since the start and memory, stage by stage, of one process."""
    command = [sys.executable, "-c", _STAGES, model]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, dict[str, float]] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
