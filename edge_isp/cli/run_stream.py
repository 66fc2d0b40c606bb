"""The loop of `edge-isp run`: results of a pipeline are shown, written and counted until the end."""

from __future__ import annotations

import itertools
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import typer
from rich.console import Console
from rich.live import Live
from rich.logging import RichHandler

from edge_isp.cameras.spec import open_camera
from edge_isp.cli.delegation import explain, report_lines
from edge_isp.cli.run_output import Summary, applied_lines, found_line, losses, sink_losses
from edge_isp.cli.signals import Interrupted
from edge_isp.cli.tables import plain_console
from edge_isp.models.card import find_model
from edge_isp.pipeline import Consumer, ModelOptions, Pipeline, QueuePolicy, StreamOptions
from edge_isp.result_json import result_json
from edge_isp.results import Detections, FrameResult
from edge_isp.sinks.annotate import picture_of
from edge_isp.sinks.base import Sink
from edge_isp.sinks.png import PngSink
from edge_isp.sinks.spec import open_sink, sink_name, sink_policy
from edge_isp.tasks.classical import ClassicalIsp

# How long a sink may take for the last results after the stream has stopped.
_LAST_RESULTS_S = 5.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What the user gets to see of a stream.

    Attributes:
        frames: stop after that many; None goes on to the end.
        folder: of the PNG files; None writes none.
        sinks: specifications of sinks that get every result.
        as_json: lines of JSON, in place of the table.
        verbose: messages about what is chosen and why, too.
    """

    frames: int | None
    folder: Path | None
    sinks: tuple[str, ...]
    as_json: bool
    verbose: bool


@dataclass(frozen=True, slots=True)
class FurtherModel:
    """Another model that gets the same camera's frames.

    Attributes:
        options: the model, and how it is run.
        every: it takes the first frame and every Nth one after it.
        sinks: specifications of sinks that get its results.
    """

    options: ModelOptions
    every: int
    sinks: tuple[str, ...]


def run_stream(
    camera: str | None,
    model: ModelOptions,
    stream: StreamOptions,
    shown: Shown,
    further: Sequence[FurtherModel] = (),
) -> None:
    """Runs until the recording ends, enough frames are done, or a signal comes, whose exit status follows.

    Args:
        camera: specification of the camera; None is the recording that ships.
        model: what makes the results.
        stream: how frames pass.
        shown: what the user gets to see.
        further: other models, whose results are shown and written too, but not timed.
    """
    messages, console = plain_console(stderr=True), plain_console()
    logging.basicConfig(
        level=logging.INFO if shown.verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=messages, show_path=False)],
    )
    png = PngSink(shown.folder) if shown.folder else None
    sinks = _open_sinks(shown.sinks, model, shown.frames)
    further_sinks = [_open_sinks(each.sinks, each.options, _share(shown.frames, each.every)) for each in further]
    summary, show = Summary(), _printer(shown, console)
    live = nullcontext() if shown.as_json else Live(get_renderable=summary.table, console=console, refresh_per_second=4)
    classical = ClassicalIsp(model.profile, tone=model.tone)  # makes pictures to draw on
    status = 0
    card = find_model(model.model, None)
    # Detections are drawn on a picture of their frame.
    keep_raw = png is not None and card.task == "detector"
    with Pipeline(partial(open_camera, camera), model, replace(stream, keep_raw=keep_raw)) as pipeline:
        accounts = _add_sinks(pipeline, sinks, pipeline.consumers[0])
        for each, of_each in zip(further, further_sinks, strict=True):
            consumer = pipeline.add_consumer(each.options, every=each.every, callback=show)
            accounts += _add_sinks(pipeline, of_each, consumer)
        pipeline.start()  # what is wrong with the camera is said before the table is there
        with live:
            try:
                for done in itertools.islice(pipeline, shown.frames):
                    stages_ns, saved = dict(done.stages_ns), None
                    if png:
                        begun = time.perf_counter_ns()
                        saved = png.save(picture_of(done, classical))
                        stages_ns["save"] = time.perf_counter_ns() - begun
                    if not summary.frames:
                        messages.print(*_first_lines(done, pipeline, shown), sep="\n", soft_wrap=True)
                    summary.add(done, stages_ns, pipeline)
                    show(done, stages_ns, saved)
                if summary.frames != shown.frames:
                    pipeline.run()  # the camera has ended; further models may not have come to its last frames yet
                for sink in itertools.chain(sinks, *further_sinks):
                    sink.wait(_LAST_RESULTS_S)
                if pipeline.error is not None:
                    raise pipeline.error  # of a sink, when the last results were there already
            except Interrupted as signal:
                messages.print("interrupted")
                status = signal.status_of_a_service if summary.frames else signal.status
        lost, report = [losses(pipeline), *sink_losses(accounts)], pipeline.report
    for line in filter(None, lost):
        messages.print(line, soft_wrap=True, markup=False)
    if not shown.as_json:
        print("\n".join([*(report_lines(report, card.cell) if report else ()), *_saved(png, summary.frames)]))
    _end(summary.frames, status)


def _end(frames: int, status: int) -> None:
    """Exits with the status of a signal, or with 1 where there was no frame."""
    if not frames and not status:
        print("edge-isp: the camera delivered no frame", file=sys.stderr)
        status = 1
    if status:
        raise typer.Exit(status)


def _printer(shown: Shown, console: Console) -> Callable[..., None]:
    """A function that prints a result; those of further models come in threads of the pipeline."""
    lock = threading.Lock()

    def show(done: FrameResult, stages_ns: dict[str, int] | None = None, saved: Path | None = None) -> None:
        with lock:
            if shown.as_json:
                line = result_json(done if stages_ns is None else replace(done, stages_ns=stages_ns))
                print(json.dumps(line | ({"saved": str(saved)} if saved else {})), flush=True)
            elif isinstance(done.result, Detections):
                console.print(found_line(done.result), soft_wrap=True)

    return show


def _first_lines(done: FrameResult, pipeline: Pipeline, shown: Shown) -> list[str]:
    """What is said once the first result is there."""
    report = [explain(pipeline.report)] if pipeline.report else []
    return [*report, *(applied_lines(done) if shown.verbose else ())]


def _saved(png: PngSink | None, frames: int) -> list[str]:
    return [f"{frames} pictures in {png.folder}"] if png else []


def _share(frames: int | None, every: int) -> int | None:
    """How many of the first frames a model gets that takes every Nth."""
    return None if frames is None else -(-frames // every)


def _open_sinks(specs: Sequence[str], model: ModelOptions, most: int | None) -> list[_FirstResults]:
    for policy in filter(None, map(sink_policy, specs)):
        QueuePolicy.parse(policy)  # before anything is opened
    return [
        _FirstResults(open_sink(spec, profile=model.profile, tone=model.tone), sink_name(spec), most) for spec in specs
    ]


def _add_sinks(pipeline: Pipeline, sinks: Sequence[_FirstResults], of: Consumer) -> list[tuple[Consumer, Sink]]:
    """Adds sinks; each with the account of its results."""
    added = []
    for sink in sinks:
        taken = {consumer.name for consumer in pipeline.consumers}
        names = (sink.name, *(f"{sink.name} {number}" for number in range(2, len(taken) + 3)))
        free = next(name for name in names if name not in taken)
        added.append((pipeline.add_sink(sink, name=free, of=of), sink.sink))
    return added


class _FirstResults:
    """A sink that gets the first results only, as `--frames` says.

    Args:
        sink: belongs to this one.
        name: of the sink in events and statistics.
        most: how many results it gets; None is all.
    """

    def __init__(self, sink: Sink, name: str, most: int | None) -> None:
        self.sink, self.name = sink, name
        self.policy = getattr(sink, "policy", None)
        self.needs_raw = getattr(sink, "needs_raw", False)
        self._most, self._written = most, 0
        self._done = threading.Event()
        # A recorder gets every frame of the camera, see `Sink`.
        for hook in ("frame_arrived", "event"):
            if hasattr(sink, hook):
                setattr(self, hook, getattr(sink, hook))

    def write(self, result: FrameResult) -> None:
        """See `Sink.write`."""
        if self._most is not None and self._written >= self._most:
            return
        self.sink.write(result)
        self._written += 1
        if self._written == self._most:
            self._done.set()

    def close(self) -> None:
        """See `Sink.close`."""
        self.sink.close()

    def wait(self, timeout_s: float) -> None:
        """Waits for the last result, where there is a last one; a slow sink may have lost it."""
        if self._most is not None:
            self._done.wait(timeout_s)
