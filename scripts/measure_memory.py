"""Measures the peak of memory of the shipped models, for docs/models.md: a stream of three frames, each in a process.

    python scripts/measure_memory.py [--largest MEGAPIXELS]

The largest sizes take minutes and, run whole, more than 12 GB: --largest leaves them out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from edge_isp.models.card import read_card, shipped_models

SIZES = ((1280, 720), (1920, 1080), (4056, 3040), (9248, 6944))
FRAMES = 3

_STREAM = """
import sys
from edge_isp import ModelOptions, Pipeline, ReplayCamera
budget = int(sys.argv[3])
with Pipeline(ReplayCamera(sys.argv[1]), ModelOptions(sys.argv[2], memory_budget_bytes=budget)) as pipeline:
    for result in pipeline:
        pass
# Not `getrusage`, whose peak begins with that of the parent.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024 // 10**6)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=float, default=70, metavar="MEGAPIXELS")
    largest = parser.parse_args().largest * 1e6
    print("| model | frame | whole, MB | in tiles, MB |\n|---|---|---|---|")
    for name, path in shipped_models().items():
        for width, height in SIZES:
            in_tiles = "-"
            if read_card(path).receptive_field_radius is not None:
                in_tiles = peak_mb(name, width, height, budget=1)
            small = width * height <= largest
            whole = peak_mb(name, width, height, budget=10**12) if small else "not measured"
            print(f"| `{name}` | {width}x{height} | {whole} | {in_tiles} |", flush=True)


def peak_mb(model: str, width: int, height: int, *, budget: int) -> str:
    """Peak resident memory of a process that streams RAW10 frames through a model."""
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "frames.raw"
        with recording.open("wb") as file:
            file.truncate(FRAMES * height * (width // 4 * 5))
        recording.with_suffix(".toml").write_text(
            f'[format]\nwidth = {width}\nheight = {height}\ncfa = "RGGB"\nbit_depth = 10\npacking = "csi2p"\n'
            '[sensor]\nname = "imx219"\n[frame]\ncolour_gains = [1.75, 1.43]\n'
        )
        command = [sys.executable, "-c", _STREAM, str(recording), model, str(budget)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
