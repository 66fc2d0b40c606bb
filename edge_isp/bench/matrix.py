"""Several combinations of model, frame size, engine, delegate and threads, each measured in a process of its own.

So what one of them leaves in memory, or breaks, is no other's: `python -m edge_isp.bench.matrix` gets one combination
as JSON and prints its report as JSON. A combination that cannot be measured has its reason in place of a report.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import msgspec

from edge_isp.bench.figures import infer
from edge_isp.bench.frames import MemoryCamera
from edge_isp.bench.model import measure_model
from edge_isp.bench.model_file import model_file
from edge_isp.bench.pipeline import measure_pipeline
from edge_isp.bench.plan import Plan, Subject
from edge_isp.bench.report import Cell, Matrix, Report, to_json
from edge_isp.board import Board
from edge_isp.engines.delegates import delegates
from edge_isp.errors import BenchError, EdgeIspError, shortened
from edge_isp.plugins import names


class Combination(NamedTuple):
    """What is measured, and the size of its frames in pixels."""

    subject: Subject
    width: int
    height: int


def combinations(
    models: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    executors: Sequence[tuple[str | None, str]],
    threads: Sequence[int | None],
    *,
    policy: str | None = None,
    python: str | None = None,
) -> list[Combination]:
    """Every combination, in the order of models, sizes, executors and threads.

    Args:
        models: the names of models.
        sizes: (width, height) of frames, in pixels.
        executors: (engine, delegate), see `Subject`.
        threads: of the engine.
        policy: of pipelines.
        python: the path of another Python, for engines whose packages this one does not have.
    """
    return [
        Combination(Subject(model, engine, count, policy, delegate, python), *size)
        for model, size, (engine, delegate), count in itertools.product(models, sizes, executors, threads)
    ]


def executor(name: str) -> tuple[str | None, str]:
    """(engine, delegate) for the name of either: an engine runs the model on the CPU, without a delegate.

    Args:
        name: of an engine, or of a delegate with its options ("openvino,device_type=GPU").

    Raises:
        BenchError: there is neither.
    """
    if name in names("engines"):
        return name, "none"
    known = {spec.name: spec.engine for spec in delegates()}
    short = name.partition(",")[0]
    if short in known:
        return ("onnxruntime" if known[short] == "onnxruntime" else None), name
    raise BenchError(
        f"no engine or delegate '{shortened(name)}'; there are the engines {', '.join(names('engines'))} and the "
        f"delegates {', '.join(known)}"
    )


def measure_matrix(
    wanted: Sequence[Combination],
    plan: Plan,
    *,
    kind: Literal["model", "pipeline"] = "model",
    fps: float | None = None,
    notify: Callable[[Cell], None] = lambda cell: None,
) -> Matrix:
    """Measures combinations one after the other.

    Args:
        wanted: the combinations.
        plan: how much is measured of each.
        kind: whether the engine alone or the whole pipeline is measured.
        fps: frames per second of a pipeline's camera; None for frames as fast as they are taken.
        notify: is called with each combination when it has been measured.

    Returns:
        What was measured: all of it, or what came before Ctrl-C.
    """
    started, cells, board = datetime.now(UTC), [], Board()
    with TemporaryDirectory(prefix="edge-isp-bench-") as folder:
        for combination in wanted:
            try:
                cells.append(_measured(combination, plan, kind, fps, Path(folder)))
            except (KeyboardInterrupt, SystemExit):  # the command line makes the latter of signals
                if not cells:
                    raise
                break
            notify(cells[-1])
    return Matrix(
        schema_version=1,
        kind="matrix",
        started_utc=started.isoformat(timespec="seconds"),
        board=board.model() or board.soc() or board.architecture(),
        cells=cells,
    )


def _measured(combination: Combination, plan: Plan, kind: str, fps: float | None, folder: Path) -> Cell:
    subject, width, height = combination
    report, error = None, None
    try:
        made = replace(subject, model=model_file(subject, width, height, folder))
        job = {"kind": kind, "subject": asdict(made), "plan": asdict(plan), "size": (width, height), "fps": fps}
        report = _in_process(job)
    except EdgeIspError as found:
        error = str(found)
    return Cell(
        model=subject.model,
        width=width,
        height=height,
        engine=subject.engine,
        delegate=subject.delegate,
        threads=subject.threads,
        report=report,
        error=error,
    )


def _in_process(job: Mapping[str, Any]) -> Report:
    """The report of a combination; a BenchError where its process fails."""
    command = [sys.executable, "-m", "edge_isp.bench.matrix", json.dumps(job)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    last = (result.stdout.strip().splitlines() or [""])[-1]
    if result.returncode == 0:
        return msgspec.json.decode(last, type=Report)
    if last.startswith('{"error":'):
        raise BenchError(str(json.loads(last)["error"]))
    reason = (result.stderr.strip().splitlines() or [""])[-1]
    raise BenchError(f"its process ended with status {result.returncode}: {shortened(reason)}")


# The columns of a CSV file, each with what stands there for a cell that was measured; "" for one that was not.
_COLUMNS: dict[str, Callable[[Report], Any]] = {
    "input": lambda r: "x".join(map(str, r.model.input_shape)),
    "nodes": lambda r: r.model.nodes_total,
    "nodes_delegated": lambda r: r.model.nodes_delegated,
    "runs": lambda r: infer(r).n,
    "min_ms": lambda r: _ms(infer(r).min),
    "p50_ms": lambda r: _ms(infer(r).p50),
    "p95_ms": lambda r: _ms(infer(r).p95),
    "p99_ms": lambda r: _ms(infer(r).p99),
    "first_ms": lambda r: _ms(infer(r).first),
    "fps": lambda r: None if r.rates.processed_fps is None else round(r.rates.processed_fps, 2),
    "init_ms": lambda r: _ms(r.init_ns),
    "init_mb": lambda r: None if r.resources.rss_init_bytes is None else round(r.resources.rss_init_bytes / 1e6, 1),
    "runs_on": lambda r: r.software.delegate.name if r.software.delegate else "none",
    "runtime": lambda r: r.software.runtime.name if r.software.runtime else None,
    "runtime_version": lambda r: r.software.runtime.version if r.software.runtime else None,
    "runtime_sha256": lambda r: r.software.runtime.sha256 if r.software.runtime else None,
    "delegate_version": lambda r: r.software.delegate.version if r.software.delegate else None,
    "delegate_sha256": lambda r: r.software.delegate.sha256 if r.software.delegate else None,
    "model_sha256": lambda r: r.model.sha256,
    "edge_isp": lambda r: r.software.git_commit or r.software.edge_isp,
    "governor": lambda r: r.host.governor,
    "load": lambda r: r.resources.load_avg,
    "valid": lambda r: r.valid,
}


def to_csv(matrix: Matrix) -> str:
    """A line for each combination, under a line of the columns' names.

    Args:
        matrix: what was measured.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["board", "model", "width", "height", "engine", "delegate", "threads", *_COLUMNS, "error"])
    writer.writerows(_rows(matrix))
    return text.getvalue()


def _rows(matrix: Matrix) -> Iterator[list[Any]]:
    for cell in matrix.cells:
        figures = ["" for _ in _COLUMNS] if cell.report is None else [read(cell.report) for read in _COLUMNS.values()]
        asked = [matrix.board, cell.model, cell.width, cell.height, cell.engine, cell.delegate, cell.threads]
        yield [*asked, *figures, " ".join((cell.error or "").split())]


def _ms(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else round(nanoseconds / 1e6, 3)


def _run(job: Mapping[str, Any]) -> Report:
    """Measures a combination in the process that was started for it."""
    subject, (width, height) = Subject(**job["subject"]), job["size"]
    plan = Plan(**{**job["plan"], "pinned": tuple(job["plan"]["pinned"] or ()) or None})
    if job["kind"] == "model":
        return measure_model(subject, plan, width=width, height=height)
    opener = partial(MemoryCamera, width, height, fps=job["fps"], seed=plan.seed)
    return measure_pipeline(subject, plan, opener, requested_fps=job["fps"])


if __name__ == "__main__":
    try:
        print(json.dumps(json.loads(to_json(_run(json.loads(sys.argv[1]))))))
    except EdgeIspError as failure:
        print(json.dumps({"error": str(failure)}))
        sys.exit(1)
