"""Every parser under damaged inputs, for a minute; `python -m tests.fuzz` runs for hours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_minute_of_damaged_inputs(tmp_path: Path) -> None:
    """In a process of its own, whose memory is that of the parsers."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seconds", "60", "--seed", "0", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout, done.stderr
    figures = json.loads(done.stdout)
    assert figures["findings"] == []
    assert figures["inputs"] > 1000
    assert all(figures["accepted"].get(name) for name in ("sidecar", "card", "set-up", "report", "tuning"))
