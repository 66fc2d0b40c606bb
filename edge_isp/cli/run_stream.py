"""The loop of `edge-isp run`: results of a pipeline are shown, written and counted until the end."""

from __future__ import annotations

import itertools
import json
import logging
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.live import Live
from rich.logging import RichHandler

from edge_isp.calibration.profile import SensorProfile
from edge_isp.cameras.spec import open_camera
from edge_isp.cli.delegation import explain, report_lines
from edge_isp.cli.run_output import Summary, found_line, json_line, losses
from edge_isp.cli.tables import plain_console
from edge_isp.engines.fallback import Delegation
from edge_isp.metering.exposure import AutoExposure
from edge_isp.models.card import ModelCard
from edge_isp.pipeline import Pipeline
from edge_isp.results import Detections, Picture
from edge_isp.sinks.annotate import DetectionsOfFrame, FrameKeeping, draw
from edge_isp.sinks.png import PngSink
from edge_isp.tasks.classical import ClassicalIsp
from edge_isp.tasks.protocol import Task, task_for


@dataclass(frozen=True, slots=True)
class Shown:
    """What the user gets to see of a stream.

    Attributes:
        frames: stop after that many; None goes on to the end.
        folder: of the PNG files; None writes none.
        as_json: lines of JSON, in place of the table.
        verbose: messages about what is chosen and why, too.
    """

    frames: int | None
    folder: Path | None
    as_json: bool
    verbose: bool


def run_stream(
    camera: str | None,
    shown: Shown,
    *,
    model: str,
    engine: str | None,
    threads: int | None,
    delegation: Delegation,
    profile: SensorProfile | None,
    lens_shading: bool,
    input_size: int | None,
    confidence: float | None,
    auto_exposure: AutoExposure | None,
    policy: str | None,
) -> None:
    """Runs until the recording ends, enough frames are done, or the user interrupts it."""
    messages, console = plain_console(stderr=True), plain_console()
    logging.basicConfig(
        level=logging.INFO if shown.verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=messages, show_path=False)],
    )
    sink = PngSink(shown.folder) if shown.folder else None
    summary = Summary()
    live = nullcontext() if shown.as_json else Live(get_renderable=summary.table, console=console, refresh_per_second=4)
    classical = ClassicalIsp(profile)  # for pictures to draw on
    # A service manager ends a service with SIGTERM; it ends as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Pipeline(
        partial(open_camera, camera),
        model=model,
        engine=engine,
        threads=threads,
        delegation=delegation,
        make_task=partial(
            _make_task,
            keep_frames=sink is not None,
            profile=profile,
            correct_shading=lens_shading,
            input_size=input_size,
            confidence=confidence,
        ),
        auto_exposure=auto_exposure,
        policy=policy,
        notify_systemd=True,
    ) as pipeline:
        pipeline.start()  # what is wrong with the camera is said before the table is there
        with live:
            try:
                for done in itertools.islice(pipeline, shown.frames):
                    stages_ns, saved = dict(done.stages_ns), None
                    if sink:
                        begun = time.perf_counter_ns()
                        saved = sink.write(_picture(done.result, classical))
                        stages_ns["save"] = time.perf_counter_ns() - begun
                    if not summary.frames and pipeline.report:
                        messages.print(explain(pipeline.report))
                    summary.add(done, stages_ns, pipeline)
                    if shown.as_json:
                        print(json.dumps(json_line(done, stages_ns, saved)), flush=True)
                    elif isinstance(done.result, Detections):
                        console.print(found_line(done.result), soft_wrap=True)
            except KeyboardInterrupt:
                messages.print("interrupted")
        lost, report = losses(pipeline), pipeline.report
    if lost:
        messages.print(lost)
    if report and not shown.as_json:
        print("\n".join(report_lines(report)))
    if sink and not shown.as_json:
        print(f"{summary.frames} pictures in {sink.folder}")
    if not summary.frames:
        print("edge-isp: the camera delivered no frame", file=sys.stderr)
        raise typer.Exit(1)


def _make_task(card: ModelCard, *, keep_frames: bool, **options: Any) -> Task:
    """The card's task; a detector's keeps frames where its detections are to be drawn."""
    task = task_for(card, **options)
    return FrameKeeping(task) if keep_frames and card.task == "detector" else task


def _picture(result: Picture | Detections, classical: ClassicalIsp) -> Picture:
    """What is saved of a result."""
    if isinstance(result, DetectionsOfFrame):
        return draw(result, classical.develop(result.frame))
    if isinstance(result, Picture):
        return result
    raise TypeError(f"detections without their frame cannot be drawn, found {type(result).__name__}")
