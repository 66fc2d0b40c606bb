"""A report put together: the machine, the software, the model, the figures, and whether they may be quoted."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

import edge_isp
from edge_isp.bench.figures import Samples, intervals
from edge_isp.bench.plan import Plan, Subject
from edge_isp.bench.report import (
    CameraMode,
    Delegate,
    Distribution,
    Drops,
    Host,
    Latency,
    ModelFile,
    Overhead,
    Rates,
    Report,
    Resources,
    Runtime,
    Settings,
    Software,
)
from edge_isp.bench.sampler import Sampler
from edge_isp.board import FIX_GOVERNOR, Board
from edge_isp.engines.base import EngineReport, Library
from edge_isp.models.card import ModelCard
from edge_isp.pipeline import DropReason

# Of more frames than this a random sample is kept, see `Samples`.
SAMPLE_CAPACITY = 100_000
# One in a hundred of fewer frames is too few for a 99th percentile.
_LEAST_FRAMES = 1000
# CPUs that other programs may keep busy.
_MOST_FOREIGN_CPUS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured; see the parts of `Report` of the same names.

    Attributes:
        started: the time of day at the beginning.
        duration_s: seconds from the first measured frame to the last.
        engine: what ran the model.
        card: the model's card.
        shape: of the model's input.
        init_ns: nanoseconds from the beginning to the first result.
        init_bytes: of memory that were taken meanwhile.
        samples: values of every measured frame, with a column "interval".
        sampler: memory, temperature and energy over the same time.
    """

    kind: Literal["model", "pipeline", "soak"]
    started: datetime
    duration_s: float
    engine: EngineReport | None
    card: ModelCard
    shape: tuple[int, ...]
    init_ns: int
    stages: list[Distribution]
    rates: Rates
    samples: Samples
    sampler: Sampler
    waits: list[Distribution] = field(default_factory=list)
    camera: CameraMode | None = None
    latency: Latency | None = None
    drops: Drops = field(default_factory=lambda: Drops(total=0, by_cause={}, unexplained=0))
    reconnects: int = 0
    overhead: Overhead | None = None
    init_bytes: int | None = None


def make_report(measured: Measurement, subject: Subject, plan: Plan) -> Report:
    """The report of a measurement.

    Args:
        measured: what was measured.
        subject: what it was measured of.
        plan: how much was to be measured.
    """
    engine, card, sampler = measured.engine, measured.card, measured.sampler
    reasons = _invalid_reasons(measured)
    rss = [value for _, value in sampler.rss_bytes]
    return Report(
        schema_version=1,
        kind=measured.kind,
        started_utc=measured.started.astimezone(UTC).isoformat(timespec="seconds"),
        duration_s=measured.duration_s,
        percentiles="numpy linear",
        host=host_of(sampler.board),
        software=_software(engine),
        camera=measured.camera,
        model=ModelFile(
            name=card.name,
            sha256=card.sha256,
            input_shape=list(measured.shape),
            dtype=card.input.dtype,
            quant=f"scale {card.input.scale:g}, zero point {card.input.zero_point}",
            nodes_total=(engine.nodes or None) if engine else None,
            nodes_delegated=engine.nodes_delegated if engine else None,
        ),
        settings=Settings(
            warmup=plan.warmup,
            warmup_s=plan.warmup_s,
            frames=plan.frames,
            duration_s=plan.duration_s,
            policy=subject.policy,
            threads=engine.threads if engine else subject.threads,
            pinned=list(plan.pinned) if plan.pinned else None,
            seed=plan.seed,
        ),
        init_ns=measured.init_ns,
        stages=measured.stages,
        waits=measured.waits,
        rates=measured.rates,
        intervals=intervals(measured.samples.column("interval")),
        latency=measured.latency,
        drops=measured.drops,
        errors=measured.drops.by_cause.get(DropReason.ENGINE_ERROR.value, 0),
        reconnects=measured.reconnects,
        resources=Resources(
            rss_start_bytes=rss[0] if rss else None,
            rss_end_bytes=rss[-1] if rss else None,
            rss_peak_bytes=sampler.rss_peak_bytes(),
            rss_growth_bytes=sampler.rss_growth_bytes(),
            cpu_percent=sampler.cpu_percent,
            load_avg=os.getloadavg()[0],
            rss_init_bytes=measured.init_bytes,
        ),
        thermal=sampler.thermal(),
        energy=sampler.energy(measured.samples.n),
        quality=None,
        overhead=measured.overhead,
        baselines=None,
        valid=not reasons,
        invalid_reasons=reasons,
        samples_file=None,
    )


def host_of(board: Board) -> Host:
    """The machine, as a report describes it.

    Args:
        board: the machine.
    """
    allowed = [policy.allowed_khz for policy in board.clock_policies() if policy.allowed_khz is not None]
    return Host(
        board=board.model(),
        soc=board.soc(),
        arch=board.architecture(),
        cpu_count=board.cpu_count(),
        kernel=board.kernel(),
        governor=board.governor(),
        freq_khz=(min(low for low, _ in allowed), max(high for _, high in allowed)) if allowed else None,
        mem_total_bytes=board.memory_bytes(),
        os=board.system(),
    )


def _invalid_reasons(measured: Measurement) -> list[str]:
    """Why the figures are not to be quoted; empty where they may be."""
    reasons = []
    sampler, drops, n = measured.sampler, measured.drops, measured.samples.n
    if n < _LEAST_FRAMES:
        reasons.append(f"{n} frames are too few for p99: at least {_LEAST_FRAMES}")
    governor = sampler.board.governor()
    if governor not in (None, "performance"):
        reasons.append(f"the CPU's clock is not fixed: governor {governor}; {FIX_GOVERNOR}")
    throttling = sampler.board.throttling()
    if throttling is not None and throttling.now:
        reasons.append(f"the machine is throttled: {', '.join(throttling.now)} ({throttling.flags:#x})")
    if measured.latency is not None and measured.latency.e2e.min < 0:
        reasons.append("frames are younger than their exposure: the camera's time stamps are of another clock")
    if drops.unexplained:
        reasons.append(f"{drops.unexplained} frames are unaccounted for")
    others = _cpus_of_others(sampler)
    if others > _MOST_FOREIGN_CPUS:
        reasons.append(f"other programs used {others:.1f} CPUs")
    if measured.kind == "soak" and sampler.rss_growth_bytes() is None:
        reasons.append("memory can be judged after more than a minute only")
    engine = measured.engine
    if engine is not None and engine.delegate != "none" and engine.nodes_delegated < engine.nodes:
        reasons.append(f"partial delegation: {engine.delegate} runs {engine.nodes_delegated} of {engine.nodes} nodes")
    return reasons


def _cpus_of_others(sampler: Sampler) -> float:
    """The number of CPUs that other processes kept busy meanwhile."""
    return max(0.0, sampler.machine_cpus - sampler.cpu_percent / 100) if sampler.machine_cpus is not None else 0.0


def _software(engine: EngineReport | None) -> Software:
    name, _, runtime_version = engine.engine.partition(" ") if engine else ("", "", "")
    runtime, delegate = None, None
    if engine is not None:
        lib = engine.runtime_library
        runtime_version = runtime_version.partition(" ")[0] or (lib.version if lib else "")
        runtime = Runtime(name=name, version=runtime_version or None, lib=_path(lib), sha256=_sha256(lib))
    if engine is not None and engine.delegate != "none":
        lib = engine.delegate_library
        delegate = Delegate(
            name=engine.delegate, lib=_path(lib), sha256=_sha256(lib), version=lib.version or None if lib else None
        )
    return Software(
        edge_isp=edge_isp.__version__,
        python=platform.python_version(),
        numpy=np.__version__,
        numba=version("numba"),
        runtime=runtime,
        delegate=delegate,
        git_commit=_commit(),
    )


def _path(library: Library | None) -> str | None:
    return library.path if library else None


def _sha256(library: Library | None) -> str | None:
    """SHA-256 of a library's file; None where it cannot be read."""
    if library is None:
        return None
    try:
        with open(library.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that edge_isp runs from; None where it is not a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
