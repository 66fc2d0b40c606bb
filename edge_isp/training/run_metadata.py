"""What a model's card, or a file of results, records of how it was made. Does without PyTorch."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path


def hours(run_folder: Path) -> float:
    """How long the stages of a run took, from their logs.

    Args:
        run_folder: what `edge-isp train ... --out` wrote.
    """
    return round(sum(_hours(log) for log in run_folder.glob("*/log.jsonl")), 2)


def _hours(log: Path) -> float:
    """A resumed run's clock starts again."""
    seconds = [json.loads(line)["seconds"] for line in log.read_text(encoding="utf-8").splitlines()]
    ends = [a for a, b in zip(seconds, [*seconds[1:], 0.0], strict=True) if b < a]
    return float(sum(ends)) / 3600


def commit() -> str:
    """Short name of the commit that this code is of, with "-dirty" where it was changed since.

    "unknown" where it is no part of a repository (it was installed), or git is not there.
    """
    # An installed copy may lie in somebody else's repository: only one that has this file counts.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return "unknown"
    return _git("describe", "--always", "--dirty", "--exclude", "*") or "unknown"


def _git(*arguments: str) -> str | None:
    """What git says in this file's folder; None where it fails or is not installed."""
    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).resolve().parent), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None
