"""A whole pipeline measured: from a camera to the results of a model."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Literal

from edge_isp.bench.assemble import SAMPLE_CAPACITY, Measurement, make_report
from edge_isp.bench.figures import Samples, distribution, rate
from edge_isp.bench.frames import WatchedOpener
from edge_isp.bench.plan import Plan, Subject, pinned
from edge_isp.bench.report import CameraMode, Distribution, Drops, Latency, Overhead, Rates, Report
from edge_isp.bench.sampler import InitialMemory, Sampler
from edge_isp.cameras.base import Camera
from edge_isp.errors import BenchError
from edge_isp.pipeline import DropReason, Event, FrameResult, FramesDropped, Pipeline, StreamOptions

STAGES = ("read", "meter", "encode", "infer", "decode")
WAITS = ("encode", "infer", "decode", "deliver")


def measure_pipeline(
    subject: Subject,
    plan: Plan,
    open_camera: Callable[[], Camera],
    *,
    requested_fps: float | None,
    kind: Literal["pipeline", "soak"] = "pipeline",
    overhead: Overhead | None = None,
) -> Report:
    """Measures a camera, a model, and a consumer that takes the results at once.

    Args:
        subject: what is measured.
        plan: how much is measured.
        open_camera: opens the camera; where it fails it is opened again.
        requested_fps: of the camera, for the report.
        kind: of the report.
        overhead: for the report, where it was measured as well.

    Raises:
        BenchError: the camera ended before there was anything to measure, or there are no such CPUs as the plan names.
        CameraError: the camera cannot be opened, or fails for good.
        ModelError: there is no such model, or it is not what its card says.
        EngineError: the engine cannot run the model.
        PluginError: there is no such engine.
    """
    opener, losses = WatchedOpener(open_camera), _Losses()
    with pinned(plan.pinned), ExitStack() as sampling:
        stream = _Stream(plan, losses, sampling)
        started, begun_ns, rss = datetime.now(UTC), time.monotonic_ns(), InitialMemory()
        with Pipeline(
            opener,
            subject.model_options,
            StreamOptions(policy=subject.queue_policy, on_event=losses.add),
        ) as pipeline:
            runner = pipeline.consumers[0].runner
            for done in pipeline:
                if stream.n == 0:
                    stream.init_ns, stream.init_bytes = time.monotonic_ns() - begun_ns, rss.added()
                if not stream.add(done):
                    break
            sampling.close()
            engine, restarts, card, shape = pipeline.report, pipeline.restarts, runner.card, runner.shape
    if stream.sampler is None or stream.samples.n < 2:
        raise BenchError(f"the camera ended after {stream.n} frames, of which {plan.warmup} only warm up")
    assert card is not None
    measured = Measurement(
        kind=kind,
        started=started,
        duration_s=(stream.last_ns - stream.first_ns) / 1e9,
        engine=engine,
        card=card,
        shape=shape,
        init_ns=stream.init_ns,
        init_bytes=stream.init_bytes,
        stages=list(stream.distributions(STAGES, "stage")),
        waits=list(stream.distributions(WAITS, "wait")),
        rates=stream.rates(),
        samples=stream.samples,
        sampler=stream.sampler,
        camera=_camera_mode(opener, requested_fps),
        latency=Latency(
            clock="sensor_monotonic", e2e=distribution("e2e", stream.samples.column("age"), stream.first_age_ns)
        ),
        drops=stream.drops(),
        reconnects=restarts,
        overhead=overhead,
    )
    return make_report(measured, subject, plan)


class _Losses:
    """The events of frames that were lost, in the order in which they were reported."""

    def __init__(self) -> None:
        self.events: deque[FramesDropped] = deque()

    def add(self, event: Event) -> None:
        if isinstance(event, FramesDropped):
            self.events.append(event)

    def take_until(self, sequence: int) -> Iterator[FramesDropped]:
        """Takes out the events of frames up to a number, all of which have been reported when its result is there."""
        later = []
        while self.events:
            event = self.events.popleft()
            if event.sequence > sequence:
                later.append(event)
            else:
                yield event
        self.events.extendleft(reversed(later))


class _Stream:
    """What is kept of the results of one stream.

    Lost frames are counted by the sensor's numbers, independently of the pipeline: all that are missing between two
    results must have been reported as lost.

    Args:
        plan: how much is measured.
        losses: the events of the pipeline.
        sampling: is entered by the sampler when the warm-up is over, and closed by the caller at the end.

    Attributes:
        n: the number of results, those of the warm-up included.
        sampler: samples the machine from the end of the warm-up on; None before it.
        first_ns: when the first measured result was delivered.
        last_ns: when the last measured result was delivered.
    """

    def __init__(self, plan: Plan, losses: _Losses, sampling: ExitStack) -> None:
        self._plan, self._losses, self._sampling = plan, losses, sampling
        columns = [*(f"stage {s}" for s in STAGES), *(f"wait {w}" for w in WAITS), "age", "interval", "sensor"]
        self.samples = Samples(columns, capacity=SAMPLE_CAPACITY, seed=plan.seed)
        self.sampler: Sampler | None = None
        self.n = 0
        self.init_bytes: int | None = None
        self.init_ns = self.first_age_ns = self.first_ns = self.last_ns = 0
        self._previous: FrameResult | None = None
        self._begun_ns = 0
        self._first_values: dict[str, int] = {}
        self._made = 0  # frames of the sensor, from the first measured one to the last
        self._lost: Counter[DropReason] = Counter()

    def add(self, done: FrameResult) -> bool:
        """Adds a result.

        Returns:
            Whether more are needed.
        """
        self.n += 1
        if self.n == 1:
            self._begun_ns, self._first_values, self.first_age_ns = done.delivered_ns, _values(done), done.latency_ns
        if self.sampler is None:
            if self._plan.is_warm(self.n - 1, done.delivered_ns - self._begun_ns):
                self.sampler = self._sampling.enter_context(Sampler())
            return True
        self._measure(done)
        return not self._plan.is_complete(self.samples.n, self.last_ns - self.first_ns)

    def _measure(self, done: FrameResult) -> None:
        values = _values(done) | {"age": done.latency_ns}
        previous, self._previous = self._previous, done
        lost = list(self._losses.take_until(done.sequence))
        if previous is None:
            self.first_ns, self._made = done.delivered_ns, 1
        else:
            for event in lost:
                self._lost[event.cause] += event.frames
            values["interval"] = done.delivered_ns - previous.delivered_ns
            step = done.sequence - previous.sequence
            if step > 0:  # else the camera was opened again, or another file has begun
                values["sensor"] = (done.timestamp_ns - previous.timestamp_ns) // step
            self._made += max(step, 1)
        self.samples.add(values)
        self.last_ns = done.delivered_ns

    def rates(self) -> Rates:
        """Frames per second of the sensor, the camera, the model and the consumer."""
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
        """The frames that were lost between the first measured result and the last."""
        total = self._made - self.samples.n
        return Drops(
            total=total,
            by_cause={cause.value: frames for cause, frames in self._lost.items() if frames},
            unexplained=total - sum(self._lost.values()),
        )

    def distributions(self, names: tuple[str, ...], kind: Literal["stage", "wait"]) -> Iterator[Distribution]:
        """Distributions of the stages or waits that occurred.

        Args:
            names: of the stages, or of the stages that were waited for.
            kind: which of the two.
        """
        for name in names:
            values = self.samples.column(f"{kind} {name}")
            if values.size:
                yield distribution(name, values, self._first_values.get(f"{kind} {name}"))


def _values(done: FrameResult) -> dict[str, int]:
    values = {f"stage {stage}": value for stage, value in done.stages_ns.items()}
    return values | {f"wait {stage}": value for stage, value in done.queued_ns.items()}


def _camera_mode(opener: WatchedOpener, requested_fps: float | None) -> CameraMode:
    layout = opener.format
    assert layout is not None
    return CameraMode(
        backend=opener.kind,
        model=opener.sensor,
        mode=f"{layout.width}x{layout.height}",
        bayer=layout.cfa.value,
        bit_depth=layout.bit_depth,
        packing=layout.packing.value,
        requested_fps=requested_fps,
        buffer_count=None,
    )
