"""Fuzzes every parser: nothing but the library's own errors, no case over 2 s of CPU time or 500 MB.

    python -m tests.fuzz --seconds 3600 --seed 7
    python -m tests.fuzz --inputs 1000000
    python -m tests.fuzz --target dng --inputs 1000

The same seed makes the same inputs. Each finding is written into the folder `--out`. Ctrl-C and SIGTERM end a run
early, with the figures of what was run.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from edge_isp.errors import EdgeIspError
from tests.fuzz.mutate import mutate
from tests.fuzz.targets import Target, targets

LIMIT_S, LIMIT_BYTES = 2.0, 500_000_000
_KEPT_FINDINGS = 20
# Linux's longest path, and words.
_LONGEST_MESSAGE = 4096 + 500


def main() -> int:
    """Runs until the time or the number of inputs is up; the exit status is 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--inputs", type=float, default=float("inf"))
    parser.add_argument("--target", action="append", help="only this parser; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    options = parser.parse_args()
    if options.seconds == options.inputs == float("inf"):
        parser.error("--seconds or --inputs is needed")
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory(prefix="edge-isp-fuzz-") as folder:
        return fuzz(
            Path(folder), options.seed, options.seconds, options.inputs, frozenset(options.target or ()), options.out
        )


def fuzz(folder: Path, seed: int, seconds: float, inputs: float, only: frozenset[str], out: Path) -> int:
    """Fuzzes, and prints figures as JSON.

    Args:
        folder: for the parsers' files.
        seed: of the inputs.
        seconds: to run for.
        inputs: to run.
        only: names of the parsers to fuzz; all where there is none.
        out: folder for findings.

    Returns:
        1 where anything was found, else 0.
    """
    rng = random.Random(seed)
    known = targets(folder)
    if unknown := only - {target.name for target in known}:
        raise SystemExit(f"no parser {', '.join(unknown)}; there are: {', '.join(target.name for target in known)}")
    chosen = [target for target in known if not only or target.name in only]
    for target in chosen:  # what is loaded once, is loaded; good inputs are accepted
        if not any([_outcome(target, good, folder)[1] for good in target.seeds]):
            raise SystemExit(f"{target.name}: no input to start from is accepted")
    run: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    findings: list[str] = []
    slowest: tuple[float, str] = (0.0, "")
    base_bytes = peak_bytes = _peak_bytes()
    started = time.monotonic()
    asked_to_end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_end.set())
    while (
        sum(run.values()) < inputs
        and time.monotonic() - started < seconds
        and len(findings) < _KEPT_FINDINGS
        and not asked_to_end.is_set()
    ):
        target = rng.choices(chosen, [target.share for target in chosen])[0]
        content = mutate(rng, target.seeds, text=target.text)
        begun = time.process_time()
        problem, good_input = _outcome(target, content, folder)
        duration = time.process_time() - begun
        run[target.name] += 1
        accepted[target.name] += good_input
        slowest = max(slowest, (duration, target.name))
        grown, peak_bytes = _peak_bytes() - peak_bytes, _peak_bytes()
        if duration > LIMIT_S:
            problem = f"took {duration:.1f} s"
        if grown > LIMIT_BYTES:
            problem = f"took {grown} bytes"
        if problem:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{target.name.replace(' ', '-')}-{seed}-{sum(run.values())}").write_bytes(content)
            findings.append(f"{target.name}, input {sum(run.values())}: {problem}")
    print(
        json.dumps(
            {
                "seed": seed,
                "inputs": sum(run.values()),
                "seconds": round(time.monotonic() - started, 1),
                "by_parser": dict(run),
                "accepted": dict(accepted),
                "slowest_s": round(slowest[0], 3),
                "slowest": slowest[1],
                "memory_growth_bytes": peak_bytes - base_bytes,
                "findings": findings,
            },
            indent=1,
        )
    )
    return 1 if findings else 0


def _outcome(target: Target, content: bytes, folder: Path) -> tuple[str, bool]:
    """What was wrong, "" for nothing; and whether the input was accepted."""
    try:
        target.parse(content, folder)
    except EdgeIspError as error:
        text = str(error)
        if not text or len(text) > _LONGEST_MESSAGE:
            return f"a message of {len(text)} characters: {text[:300]}", False
        return "", False
    except Exception:  # noqa: BLE001 - this is what is looked for
        return traceback.format_exc(), False
    return "", True


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
