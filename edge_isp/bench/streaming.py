"""A model alone, a whole pipeline, and a pipeline for a long time: measured.

Method: `warmup` frames and seconds are left out, then frames are measured until there are enough of them and they took
long enough. One clock, CLOCK_MONOTONIC, for everything. A rate is (n - 1) / (last - first). Percentiles are linear
between values. What is only true of the first frame stands apart.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

import edge_isp
from edge_isp.bench.figures import Samples, distribution, intervals, rate
from edge_isp.bench.frames import MemoryCamera, Tap
from edge_isp.bench.machine import Machine, Sampler
from edge_isp.bench.report import (
    CameraMode,
    Delegate,
    Distribution,
    Drops,
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
from edge_isp.cameras.base import Camera
from edge_isp.engines.base import EngineReport
from edge_isp.errors import BenchError
from edge_isp.models.card import ModelCard
from edge_isp.pipeline import (
    DropReason,
    Event,
    FrameResult,
    FramesDropped,
    ModelOptions,
    Pipeline,
    QueuePolicy,
    StreamOptions,
)
from edge_isp.pipeline.runner import Model, Runner

STAGES = ("read", "meter", "encode", "infer", "decode")
WAITS = ("encode", "infer", "decode", "deliver")
# More frames than that are sampled, see `Samples`.
_CAPACITY = 100_000
_FRAMES_TO_FILL_THE_STAGES = 8
# Fewer tell nothing of one in a hundred.
_LEAST_FRAMES = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        warmup, warmup_s: frames and seconds, at least, that do not count.
        frames, duration_s: that are measured, at least.
        pinned: CPUs to run on; None for all.
    """

    warmup: int = 30
    warmup_s: float = 2.0
    frames: int = 1000
    duration_s: float = 10.0
    pinned: tuple[int, ...] | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured; see `Pipeline`."""

    model: str = "rfdcsanet-s"
    engine: str | None = None
    threads: int | None = None
    policy: str | None = None

    def options(self) -> ModelOptions:
        """What the pipeline is asked for."""
        return ModelOptions(self.model, engine=self.engine, threads=self.threads)


def measure_model(subject: Subject, plan: Plan, *, width: int, height: int) -> Report:
    """The engine alone, on one tensor of random numbers of the size that frames of `width` x `height` have.

    Raises:
        ModelError, EngineError, PluginError: see `Pipeline`.
    """
    with pinned(plan.pinned):
        started, begun = datetime.now(UTC), time.monotonic_ns()
        options = subject.options()
        model = Model(options)
        runner = Runner(model, options)
        with MemoryCamera(width, height, fps=None) as camera:
            frame = camera.read()
        assert frame is not None
        card, task = model.prepare(frame)
        shape = task.input_shape(frame.format)
        runner.prepare(card, task, shape, warm_up=False)
        init_ns = time.monotonic_ns() - begun
        tensor = np.random.default_rng(plan.seed).integers(-128, 128, shape).astype(card.input.dtype)

        def timed() -> tuple[int, int]:
            before = time.monotonic_ns()
            runner.run(tensor)
            return before, time.monotonic_ns()

        before, after = timed()
        first_ns = after - before
        _warm_up(plan, timed)
        samples = Samples(["infer", "interval"], capacity=_CAPACITY, seed=plan.seed)
        report = runner.report
        with Sampler(Machine()) as sampler:
            begin = last = time.monotonic_ns()
            first_end: int | None = None
            while samples.n < plan.frames or last - begin < plan.duration_s * 1e9:
                before, after = timed()
                values = {"infer": after - before}
                if first_end is None:
                    first_end = after
                else:
                    values["interval"] = after - last
                samples.add(values)
                last = after
        runner.close()
    assert first_end is not None
    processed = rate(samples.n, first_end, last)
    return _report(
        "model",
        started,
        (last - begin) / 1e9,
        subject,
        plan,
        engine=report,
        card=card,
        shape=shape,
        init_ns=init_ns,
        stages=[distribution("infer", samples.column("infer"), first_ns)],
        rates=Rates(sensor_fps=None, captured_fps=None, processed_fps=processed, delivered_fps=None),
        samples=samples,
        sampler=sampler,
    )


def measure_pipeline(
    subject: Subject,
    plan: Plan,
    open_camera: Callable[[], Camera],
    *,
    requested_fps: float | None,
    kind: Literal["pipeline", "soak"] = "pipeline",
    overhead: Overhead | None = None,
) -> Report:
    """A camera, a model, and somebody who takes the results at once.

    Args:
        open_camera: opens it; where it fails it is opened again.
        requested_fps: of the camera, for the report.

    Raises:
        BenchError: the camera ended before there was anything to measure.
        CameraError, ModelError, EngineError, PluginError: see `Pipeline`.
    """
    tap, losses = Tap(open_camera), _Losses()
    with pinned(plan.pinned):
        started, begun = datetime.now(UTC), time.monotonic_ns()
        with Pipeline(
            tap.open,
            subject.options(),
            StreamOptions(policy=QueuePolicy.parse(subject.policy) if subject.policy else None, on_event=losses.add),
        ) as pipeline:
            run = _Run(plan, losses)
            for done in pipeline:
                if run.n == 0:
                    run.init_ns = time.monotonic_ns() - begun
                if not run.add(done, pipeline):
                    break
            run.end()
            engine, restarts = pipeline.report, pipeline.restarts
            runner = pipeline.consumers[0].runner
    if run.first is None or run.samples.n < 2:
        raise BenchError(f"the camera ended after {run.n} frames, of which {plan.warmup} only warm up")
    assert run.sampler is not None
    assert runner.card is not None
    return _report(
        kind,
        started,
        (run.last_ns - run.first_ns) / 1e9,
        subject,
        plan,
        engine=engine,
        card=runner.card,
        shape=runner.shape,
        init_ns=run.init_ns,
        stages=run.distributions(STAGES, "stage"),
        waits=run.distributions(WAITS, "wait"),
        rates=run.rates(),
        samples=run.samples,
        sampler=run.sampler,
        camera=_camera(tap, requested_fps),
        latency=Latency(clock="sensor_monotonic", e2e=distribution("e2e", run.samples.column("age"), run.first_age_ns)),
        drops=run.drops(),
        reconnects=restarts,
        overhead=overhead,
    )


def measure_overhead(
    subject: Subject, *, width: int, height: int, rounds: int = 5, seconds: float = 3.0, seed: int = 0
) -> Overhead:
    """The whole pipeline on frames from memory, as fast as they are taken, and its engine alone, in turns.

    Both run the same engine in one process, so that whatever else the machine does hits both alike.
    """
    engine, whole = [], []
    with Pipeline(
        lambda: MemoryCamera(width, height, fps=None, seed=seed),
        subject.options(),
        StreamOptions(policy=QueuePolicy.BLOCK),
    ) as pipeline:
        for _ in range(rounds):
            whole.append(_pace(_results(pipeline), seconds))
            engine.append(_pace(_inferences(pipeline), seconds))
    engine_fps, engine_cpu_s = np.array(engine).T
    pipeline_fps, pipeline_cpu_s = np.array(whole).T
    return Overhead(
        rounds=rounds,
        engine_fps=float(np.median(engine_fps)),
        pipeline_fps=float(np.median(pipeline_fps)),
        share=float(np.median(pipeline_fps / engine_fps)),
        engine_cpu_s_per_frame=float(np.median(engine_cpu_s)),
        pipeline_cpu_s_per_frame=float(np.median(pipeline_cpu_s)),
    )


def _pace(frames: Iterator[object], seconds: float) -> tuple[float, float]:
    """Frames a second, and CPU seconds a frame; without the first frames, which find the stages empty."""
    for _ in range(_FRAMES_TO_FILL_THE_STAGES):
        next(frames)
    begun_ns, begun_cpu_s, n = time.monotonic_ns(), time.process_time(), 0
    now = begun_ns
    while now - begun_ns < seconds * 1e9 or n < _FRAMES_TO_FILL_THE_STAGES:
        next(frames)
        n += 1
        now = time.monotonic_ns()
    return n * 1e9 / (now - begun_ns), (time.process_time() - begun_cpu_s) / n


def _results(pipeline: Pipeline) -> Iterator[FrameResult]:
    pipeline.start()
    try:
        yield from pipeline
    finally:
        pipeline.stop()


def _inferences(pipeline: Pipeline) -> Iterator[object]:
    """Of the pipeline's engine, while the pipeline stands still."""
    runner = pipeline.consumers[0].runner
    tensor = np.random.default_rng(0).integers(-128, 128, runner.shape).astype(np.int8)
    while True:
        yield runner.run(tensor)


class _Losses:
    """Losses that were told, by the number of the frame."""

    def __init__(self) -> None:
        self.told: deque[FramesDropped] = deque()

    def add(self, event: Event) -> None:
        if isinstance(event, FramesDropped):
            self.told.append(event)


class _Run:
    """What is kept of the results of one stream.

    The account is made anew from the sensor's numbers, apart from the pipeline's own: whatever lies between two results
    must have been told as lost.
    """

    def __init__(self, plan: Plan, losses: _Losses) -> None:
        self._plan, self._losses = plan, losses
        columns = [*(f"stage {s}" for s in STAGES), *(f"wait {w}" for w in WAITS), "age", "interval", "sensor"]
        self.samples = Samples(columns, capacity=_CAPACITY, seed=plan.seed)
        self.sampler: Sampler | None = None
        self.first: FrameResult | None = None
        self._previous: FrameResult | None = None
        self.n = 0
        self.init_ns = self.first_age_ns = 0
        self._begun_ns = self.first_ns = self.last_ns = 0
        self._first_values: dict[str, int] = {}
        self._made = 0  # by the sensor, from the first measured frame to the last
        self._lost: Counter[DropReason] = Counter()

    def add(self, done: FrameResult, pipeline: Pipeline) -> bool:
        """One more result; returns whether to go on."""
        self.n += 1
        if self.n == 1:
            self._begun_ns, self._first_values, self.first_age_ns = done.delivered_ns, _values(done), done.age_ns
        plan = self._plan
        if self.sampler is None:
            warm = self.n > plan.warmup and done.delivered_ns - self._begun_ns >= plan.warmup_s * 1e9
            if warm:
                self.sampler = Sampler(Machine())
                self.sampler.__enter__()
            return True
        values = _values(done) | {"age": done.age_ns}
        previous, self._previous = self._previous, done
        self._settle(done.sequence, counts=previous is not None)
        if previous is None:
            self.first, self.first_ns, self._made = done, done.delivered_ns, 1
        else:
            values["interval"] = done.delivered_ns - previous.delivered_ns
            step = done.sequence - previous.sequence
            if step > 0:  # else the camera was opened again, or another file has begun
                values["sensor"] = (done.timestamp_ns - previous.timestamp_ns) // step
            self._made += max(step, 1)
        self.samples.add(values)
        self.last_ns = done.delivered_ns
        return self.samples.n < plan.frames or self.last_ns - self.first_ns < plan.duration_s * 1e9

    def end(self) -> None:
        """The stream is over."""
        if self.sampler is not None:
            self.sampler.__exit__()

    def rates(self) -> Rates:
        """Of the frames that were measured."""
        sensor = self.samples.column("sensor")
        missed = self._lost[DropReason.SENSOR_GAP] + self._lost[DropReason.NOT_RENDERED]
        unfinished = sum(self._lost.values()) - self._lost[DropReason.SINK_SLOW]
        return Rates(
            sensor_fps=1e9 / float(sensor.mean()) if sensor.size and sensor.mean() > 0 else None,
            captured_fps=rate(self._made - missed, self.first_ns, self.last_ns),
            processed_fps=rate(self._made - unfinished, self.first_ns, self.last_ns),
            delivered_fps=rate(self.samples.n, self.first_ns, self.last_ns),
        )

    def drops(self) -> Drops:
        """Of the frames from the first measured one to the last."""
        total = self._made - self.samples.n
        return Drops(
            total=total,
            by_cause={cause.value: frames for cause, frames in self._lost.items() if frames},
            unexplained=total - sum(self._lost.values()),
        )

    def distributions(self, names: tuple[str, ...], kind: str) -> list[Distribution]:
        """Of those stages or waits that there were."""
        found = ((name, self.samples.column(f"{kind} {name}")) for name in names)
        return [
            distribution(name, values, self._first_values.get(f"{kind} {name}"))
            for name, values in found
            if values.size
        ]

    def _settle(self, sequence: int, *, counts: bool) -> None:
        """Takes the losses before a result, which have all been told when it is handed over."""
        told = self._losses.told
        later = []
        while told:
            loss = told.popleft()
            if loss.sequence > sequence:
                later.append(loss)
            elif counts:
                self._lost[loss.cause] += loss.frames
        told.extendleft(reversed(later))


def _values(done: FrameResult) -> dict[str, int]:
    values = {f"stage {stage}": value for stage, value in done.stages_ns.items()}
    return values | {f"wait {stage}": value for stage, value in done.queued_ns.items()}


def _warm_up(plan: Plan, run: Callable[[], object]) -> None:
    begin, done = time.monotonic_ns(), 0
    while done < plan.warmup or time.monotonic_ns() - begin < plan.warmup_s * 1e9:
        run()
        done += 1


def _report(
    kind: Literal["model", "pipeline", "soak"],
    started: datetime,
    duration_s: float,
    subject: Subject,
    plan: Plan,
    *,
    engine: EngineReport | None,
    card: ModelCard,
    shape: tuple[int, ...],
    init_ns: int,
    stages: list[Distribution],
    rates: Rates,
    samples: Samples,
    sampler: Sampler,
    waits: list[Distribution] | None = None,
    camera: CameraMode | None = None,
    latency: Latency | None = None,
    drops: Drops | None = None,
    reconnects: int = 0,
    overhead: Overhead | None = None,
) -> Report:
    drops = drops or Drops(total=0, by_cause={}, unexplained=0)
    # Not every engine tells.
    nodes, delegated = getattr(engine, "nodes", None) or None, getattr(engine, "nodes_delegated", None)
    reasons = _reasons(kind, samples.n, latency, drops, sampler)
    if engine is not None and engine.delegate != "none" and nodes and delegated is not None and delegated < nodes:
        reasons.append(f"partial delegation: {engine.delegate} runs {delegated} of {nodes} nodes")
    rss = [value for _, value in sampler.rss_bytes]
    return Report(
        schema_version=1,
        kind=kind,
        started_utc=started.isoformat(timespec="seconds"),
        duration_s=duration_s,
        percentiles="numpy linear",
        host=sampler.machine.host(),
        software=_software(engine),
        camera=camera,
        model=ModelFile(
            name=card.name,
            sha256=card.sha256,
            input_shape=list(shape),
            dtype=card.input.dtype,
            quant=f"scale {card.input.scale:g}, zero point {card.input.zero_point}",
            nodes_total=nodes,
            nodes_delegated=delegated,
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
        init_ns=init_ns,
        stages=stages,
        waits=waits or [],
        rates=rates,
        intervals=intervals(samples.column("interval")),
        latency=latency,
        drops=drops,
        errors=drops.by_cause.get(DropReason.ENGINE_ERROR.value, 0),
        reconnects=reconnects,
        resources=Resources(
            rss_start_bytes=rss[0] if rss else None,
            rss_end_bytes=rss[-1] if rss else None,
            rss_peak_bytes=sampler.rss_peak_bytes(),
            rss_growth_bytes=sampler.rss_growth_bytes(),
            cpu_percent=sampler.cpu_percent,
            load_avg=os.getloadavg()[0],
        ),
        thermal=sampler.thermal(),
        energy=sampler.energy(samples.n),
        quality=None,
        overhead=overhead,
        peers=None,
        valid=not reasons,
        invalid_reasons=reasons,
        samples_file=None,
    )


def _reasons(kind: str, n: int, latency: Latency | None, drops: Drops, sampler: Sampler) -> list[str]:
    """Why the figures are not to be quoted; none where they are."""
    reasons = []
    if n < _LEAST_FRAMES:
        reasons.append(f"{n} frames are too few for p99: at least {_LEAST_FRAMES}")
    governor = sampler.machine.governor()
    if governor not in (None, "performance"):
        reasons.append(f"the CPU's clock is not fixed: governor {governor}")
    throttled = sampler.machine.throttled()
    if throttled is not None and throttled.now:
        reasons.append(f"the firmware throttles: {throttled.raw}")
    if latency is not None and latency.e2e.min < 0:
        reasons.append("frames are younger than their exposure: the camera's time stamps are of another clock")
    if drops.unexplained:
        reasons.append(f"{drops.unexplained} frames are unaccounted for")
    others = _load_of_others(sampler)
    if others > 0.5:
        reasons.append(f"other programs used {others:.1f} CPUs")
    if kind == "soak" and sampler.rss_growth_bytes() is None:
        reasons.append("memory can be judged after more than a minute only")
    return reasons


def _load_of_others(sampler: Sampler) -> float:
    """CPUs that other processes kept busy meanwhile."""
    return max(0.0, sampler.machine_cpus - sampler.cpu_percent / 100) if sampler.machine_cpus is not None else 0.0


def _software(engine: EngineReport | None) -> Software:
    runtime, _, runtime_version = engine.engine.partition(" ") if engine else ("", "", "")
    has_delegate = engine is not None and engine.delegate != "none"
    return Software(
        edge_isp=edge_isp.__version__,
        python=platform.python_version(),
        numpy=np.__version__,
        numba=version("numba"),
        runtime=Runtime(name=runtime, version=runtime_version or None) if engine else None,
        delegate=Delegate(name=engine.delegate, lib=None, sha256=None) if engine and has_delegate else None,
        git_commit=_commit(),
    )


def _commit() -> str | None:
    """Of the checkout that edge_isp runs from, if it is one."""
    assert edge_isp.__file__
    root = Path(edge_isp.__file__).parent.parent
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


def _camera(tap: Tap, requested_fps: float | None) -> CameraMode:
    frame = tap.frame
    assert frame is not None
    return CameraMode(
        backend=tap.kind,
        model=frame.sensor,
        mode=f"{frame.format.width}x{frame.format.height}",
        bayer=frame.format.cfa.value,
        bit_depth=frame.format.bit_depth,
        packing=frame.format.packing.value,
        requested_fps=requested_fps,
        buffer_count=None,
    )


@contextmanager
def pinned(cpus: tuple[int, ...] | None) -> Iterator[None]:
    """Runs on some CPUs only.

    Raises:
        BenchError: there are no such CPUs.
    """
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError) as error:
        there_are = ", ".join(map(str, sorted(before)))
        raise BenchError(f"cannot run on CPUs {cpus}: this process may use {there_are}") from error
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
