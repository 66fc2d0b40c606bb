"""Runs on the emulated board, for `scripts/test-board --full`: edge_isp on a release of Debian and its Python.

Nothing is judged here: `test_board.py` does that.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SHARE = Path(__file__).parent
PROGRAM = "from edge_isp.cli.main import main; main()"


def command(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=SHARE)
    return {"status": done.returncode, "output": done.stdout[-4000:], "errors": done.stderr[-4000:]}


def main() -> None:
    sys.path.insert(0, str(SHARE))
    report: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    subprocess.run(["modprobe", "vivid", "n_devs=1", "node_types=0x1", "input_types=0"], check=True)
    subprocess.run(["v4l2-ctl", "-d", "/dev/video0", "-c", "osd_text_mode=2,timestamp_source=1"], check=True)
    spec = "v4l2:0,width=320,height=180,pixel_format=RG10,sensor=imx219,black_level=0"
    edge_isp = ("-c", PROGRAM)
    steps: dict[str, tuple[str, ...]] = {
        "devices": (*edge_isp, "devices", "--json"),
        "doctor": (*edge_isp, "doctor", "--json"),
        "run": (*edge_isp, "run", "--camera", spec, "--frames", "2", "--json"),
        "models": ("-c", "import json; from model_digest import MODELS, digests; "
                   "print(json.dumps({model: digests(model) for model in MODELS}))"),
        "kernels": ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "tests/kernels"),
    }  # fmt: skip
    for name, arguments in steps.items():
        begun_s = time.monotonic()
        report[name] = command(*arguments)
        print(f"{name}: {time.monotonic() - begun_s:.1f} s", flush=True)
        (SHARE / "report.json").write_text(json.dumps(report, indent=1))


main()
