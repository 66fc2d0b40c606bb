"""What a model's card records of its training."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path


def hours(run_folder: Path) -> float:
    """How long the stages of a run took, from their logs."""
    return round(sum(_hours(log) for log in run_folder.glob("*/log.jsonl")), 2)


def _hours(log: Path) -> float:
    """A resumed run's clock starts again."""
    seconds = [json.loads(line)["seconds"] for line in log.read_text(encoding="utf-8").splitlines()]
    ends = [a for a, b in zip(seconds, [*seconds[1:], 0.0], strict=True) if b < a]
    return float(sum(ends)) / 3600


def commit() -> str:
    """Short name of the commit of the working directory's repository."""
    result = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
