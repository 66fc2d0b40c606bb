"""A pipeline compared with its bare engine, in turns."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np

from edge_isp.bench.frames import MemoryCamera
from edge_isp.bench.plan import Subject
from edge_isp.bench.report import Overhead
from edge_isp.pipeline import FrameResult, Pipeline, QueuePolicy, StreamOptions

_FRAMES_TO_FILL_THE_STAGES = 8


def measure_overhead(
    subject: Subject, *, width: int, height: int, rounds: int = 5, seconds: float = 3.0, seed: int = 0
) -> Overhead:
    """Measures the whole pipeline, with frames as fast as it takes them, and its engine alone, in turns.

    Both run the same engine in one process, so that other programs disturb both alike.

    Args:
        subject: what is measured; its policy is not used, since nothing may be lost.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        rounds: the number of turns.
        seconds: the length of each turn.
        seed: of the frames' random codes.

    Raises:
        ModelError: there is no such model, or it is not what its card says.
        EngineError: the engine cannot run the model.
        PluginError: there is no such engine.
    """
    engine, whole = [], []
    with Pipeline(
        lambda: MemoryCamera(width, height, fps=None, seed=seed),
        subject.model_options,
        StreamOptions(policy=QueuePolicy.BLOCK),
    ) as pipeline:
        for _ in range(rounds):
            with closing(_results(pipeline)) as results:
                whole.append(_pace(results, seconds))
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
    """Frames per second and CPU seconds per frame, without the first frames, which find the stages empty."""
    for _ in range(_FRAMES_TO_FILL_THE_STAGES):
        next(frames)
    begun_ns, begun_cpu_s, n = time.monotonic_ns(), time.process_time(), 0
    now = begun_ns
    while now - begun_ns < seconds * 1e9 or n < _FRAMES_TO_FILL_THE_STAGES:
        next(frames)
        n += 1
        now = time.monotonic_ns()
    return n * 1e9 / (now - begun_ns), (time.process_time() - begun_cpu_s) / n


def _results(pipeline: Pipeline) -> Generator[FrameResult, None, None]:
    pipeline.start()
    try:
        yield from pipeline
    finally:
        pipeline.stop()


def _inferences(pipeline: Pipeline) -> Iterator[object]:
    """Inferences of the pipeline's engine while the pipeline stands still."""
    runner = pipeline.consumers[0].runner
    assert runner.card is not None
    codes = np.random.default_rng(0).integers(-128, 128, runner.shape)
    tensor = codes.astype(runner.card.input.dtype)
    while True:
        yield runner.run(tensor)
