"""A model measured on its engine alone."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np

from edge_isp.bench.assemble import SAMPLE_CAPACITY, Measurement, make_report
from edge_isp.bench.figures import Samples, distribution, rate
from edge_isp.bench.frames import MemoryCamera
from edge_isp.bench.plan import Plan, Subject, pinned
from edge_isp.bench.report import Rates, Report
from edge_isp.bench.sampler import InitialMemory, Sampler
from edge_isp.pipeline.runner import Model, Runner


def measure_model(subject: Subject, plan: Plan, *, width: int, height: int) -> Report:
    """Measures an engine on one tensor of random numbers.

    Args:
        subject: what is measured.
        plan: how much is measured.
        width: of the frames whose tensor has the size that is measured, in pixels.
        height: of these frames, in pixels.

    Raises:
        BenchError: there are no such CPUs as the plan names.
        ModelError: there is no such model, or it is not what its card says.
        EngineError: the engine cannot run the model.
        PluginError: there is no such engine.
    """
    with pinned(plan.pinned):
        started, begun_ns, rss = datetime.now(UTC), time.monotonic_ns(), InitialMemory()
        model = Model(subject.model_options)
        runner = Runner(model, subject.model_options)
        with MemoryCamera(width, height, fps=None) as camera:
            frame = camera.read()
        assert frame is not None
        card, task = model.prepare(frame)
        shape = task.input_shape(frame.format)
        runner.prepare(card, task, shape, warm_up=False)
        init_ns = time.monotonic_ns() - begun_ns
        tensor = np.random.default_rng(plan.seed).integers(-128, 128, shape).astype(card.input.dtype)

        def timed() -> tuple[int, int]:
            before = time.monotonic_ns()
            runner.run(tensor)
            return before, time.monotonic_ns()

        before, after = timed()
        first_ns, init_bytes = after - before, rss.added()
        runner.settle()  # the warm-up is then run by what is measured
        begin, done = time.monotonic_ns(), 0
        while not plan.is_warm(done, time.monotonic_ns() - begin):
            timed()
            done += 1
        samples = Samples(["infer", "interval"], capacity=SAMPLE_CAPACITY, seed=plan.seed)
        report = runner.report
        with Sampler() as sampler:
            begin = last = first_end = time.monotonic_ns()
            while not plan.is_complete(samples.n, last - begin):
                before, after = timed()
                values = {"infer": after - before}
                if samples.n == 0:
                    first_end = after
                else:
                    values["interval"] = after - last
                samples.add(values)
                last = after
        runner.close()
    measured = Measurement(
        kind="model",
        started=started,
        duration_s=(last - begin) / 1e9,
        engine=report,
        card=card,
        shape=shape,
        init_ns=init_ns,
        init_bytes=init_bytes,
        stages=[distribution("infer", samples.column("infer"), first_ns)],
        rates=Rates(
            sensor_fps=None, captured_fps=None, processed_fps=rate(samples.n, first_end, last), delivered_fps=None
        ),
        samples=samples,
        sampler=sampler,
    )
    return make_report(measured, subject, plan)
