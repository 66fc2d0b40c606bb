"""`edge-isp run`: camera to pictures, or to what a detector finds."""

from __future__ import annotations

import itertools
import json
import logging
import signal
import sys
import time
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.logging import RichHandler
from rich.table import Table

from edge_isp.calibration.profile import load_profile
from edge_isp.cameras.spec import open_camera
from edge_isp.cli.delegation import explain, report_lines
from edge_isp.engines.fallback import Delegation
from edge_isp.frame import FrameStatus
from edge_isp.metering.exposure import AutoExposure
from edge_isp.models.card import find_model
from edge_isp.pipeline import FrameResult, ModelOptions, Pipeline, QueuePolicy, StreamOptions
from edge_isp.results import Detections, Picture
from edge_isp.sinks.annotate import annotate
from edge_isp.sinks.png import PngSink
from edge_isp.tasks.classical import ClassicalIsp


def run(
    camera: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="A recording (.raw with its .toml, .dng, or a folder), or NAME[:ARGUMENT][,key=value...], such "
            "as synthetic:photo.jpg,fps=30,width=1280,height=720. Without it: the recording that ships.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(metavar="NAME", help="A shipped model, or the path of one.")] = "rfdcsanet-s",
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each picture there as a PNG; with boxes if it detects.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a frame on standard output.")] = False,
    profile: Annotated[
        str | None,
        typer.Option(help="Of the sensor: a shipped one's name, or the path of a .toml; by default the frames'."),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Width and height of the mosaic that a detector sees, such as 320, 416 or 640."
        ),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="The lowest of a detection; 0.3 by default.")
    ] = None,
    lens_shading: Annotated[
        bool | None,
        typer.Option(
            "--lens-shading/--no-lens-shading",
            help="Correct the lens shading of pictures by the sensor's profile, or leave it as it is. By default it is "
            "corrected where the profile has it and the part of the sensor that the frames show is known.",
        ),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default LiteRT for a .tflite, ONNX Runtime for an .onnx.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the engine; by default one a core.")] = None,
    delegate: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto: the first NPU that works, else the CPU. none: the CPU. Or one that must work: a name that "
            "'edge-isp doctor' lists, or the path of a delegate library; options behind it, as in edgetpu,device=usb.",
        ),
    ] = "auto",
    require_full_delegation: Annotated[
        bool, typer.Option("--require-full-delegation", help="Fail where anything is left on the CPU.")
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0.001, help="Of one inference; the NPU then runs in a process that can be ended."
        ),
    ] = None,
    check_every: Annotated[
        int, typer.Option(metavar="N", min=0, help="Compare the NPU with the CPU every N frames; 0: never again.")
    ] = 1000,
    engine_python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Another Python, for engines whose packages are not in this one."),
    ] = None,
    auto_exposure: Annotated[
        bool,
        typer.Option(
            "--auto-exposure", help="Set the camera's exposure, gain and white balance, where no ISP does it."
        ),
    ] = False,
    policy: Annotated[
        str | None,
        typer.Option(
            help="What happens when frames come faster than results: 'latest' drops the older ones, 'block' drops "
            "none, 'buffered(N)' keeps up to N. The default is 'latest' for cameras and 'block' for recordings."
        ),
    ] = None,
) -> None:
    """Turn RAW frames into pictures or detections, and show how long each stage takes."""
    messages = Console(stderr=True)
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=messages, show_path=False)]
    )
    sink = PngSink(save) if save else None
    summary = _Summary()
    console = Console()
    live = nullcontext() if as_json else Live(get_renderable=summary.table, console=console, refresh_per_second=4)
    sensor_profile = load_profile(profile) if profile else None
    classical = ClassicalIsp(sensor_profile)  # for pictures to draw on
    # A service manager ends a service with SIGTERM; it ends as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Pipeline(
        partial(open_camera, camera),
        ModelOptions(
            model,
            engine=engine,
            threads=threads,
            delegation=Delegation(delegate, require_full_delegation, check_every, time_limit, engine_python),
            profile=sensor_profile,
            correct_shading=lens_shading,
            input_size=input_size,
            confidence=confidence,
        ),
        StreamOptions(
            # Detections are drawn on a picture of their frame.
            keep_raw=sink is not None and find_model(model, None).task == "detector",
            auto_exposure=AutoExposure() if auto_exposure else None,
            policy=QueuePolicy.parse(policy) if policy else None,
            notify_systemd=True,
        ),
    ) as pipeline:
        pipeline.start()  # what is wrong with the camera is said before the table is there
        with live:
            try:
                for done in itertools.islice(pipeline, frames):
                    stages_ns, saved = dict(done.stages_ns), None
                    if sink:
                        begun = time.perf_counter_ns()
                        saved = sink.save(annotate(done, classical))
                        stages_ns["save"] = time.perf_counter_ns() - begun
                    if not summary.frames and pipeline.report:
                        messages.print(explain(pipeline.report), markup=False, highlight=False)
                    summary.add(done, stages_ns, pipeline)
                    if as_json:
                        print(json.dumps(_line(done, stages_ns, saved)), flush=True)
                    elif isinstance(done.result, Detections):
                        console.print(_found(done.result), markup=False, highlight=False, soft_wrap=True)
            except KeyboardInterrupt:
                messages.print("interrupted")
        losses, report = _losses(pipeline), pipeline.report
    if losses:
        messages.print(losses)
    if report and not as_json:
        print("\n".join(report_lines(report)))
    if sink and not as_json:
        print(f"{summary.frames} pictures in {sink.folder}")
    if not summary.frames:
        print("edge-isp: the camera delivered no frame", file=sys.stderr)
        raise typer.Exit(1)


def _found(detections: Detections) -> str:
    """One line for people: what is where."""
    objects = [
        f"{name} {confidence:.2f} ({x0:.0f}, {y0:.0f}, {x1:.0f}, {y1:.0f})"
        for name, confidence, (x0, y0, x1, y1) in zip(
            detections.names, detections.confidence, detections.xyxy, strict=True
        )
    ]
    return f"{Path(detections.source).name} {detections.sequence}: {', '.join(objects) or 'nothing'}"


def _line(done: FrameResult, stages_ns: dict[str, int], saved: Path | None) -> dict[str, Any]:
    result = done.result
    line: dict[str, Any] = {
        "source": result.source,
        "sequence": result.sequence,
        "timestamp_ns": result.timestamp_ns,
    }
    if isinstance(result, Picture):
        line |= {"width": result.rgb.shape[1], "height": result.rgb.shape[0]}
    line |= {
        "model": done.model,
        "delegate": done.delegate,
        "status": [flag.name for flag in FrameStatus if flag in done.status],
        "stages_ns": stages_ns,
        "queued_ns": done.queued_ns,
        "age_ns": done.age_ns,
    }
    if isinstance(result, Detections):
        line["detections"] = [
            {
                "box": [round(edge, 2) for edge in box],
                "confidence": round(float(confidence), 4),
                "class_id": int(class_id),
                "class_name": name,
            }
            for box, confidence, class_id, name in zip(
                result.xyxy.tolist(), result.confidence, result.class_id, result.names, strict=True
            )
        ]
    if saved:
        line["saved"] = str(saved)
    return line


def _losses(pipeline: Pipeline) -> str:
    """How many frames were lost, and why."""
    dropped = pipeline.counts.dropped
    causes = ", ".join(f"{cause} {frames}" for cause, frames in dropped.items())
    return f"{sum(dropped.values())} of {pipeline.counts.frames} frames lost: {causes}" if dropped else ""


@dataclass(slots=True)
class _Stage:
    """A stage's times; not one by one, since a stream may run for months."""

    frames: int = 0
    last_ns: int = 0
    sum_ns: int = 0
    longest_ns: int = 0

    def add(self, duration_ns: int) -> None:
        self.frames += 1
        self.last_ns = duration_ns
        self.sum_ns += duration_ns
        self.longest_ns = max(self.longest_ns, duration_ns)


class _Summary:
    """What the live table shows."""

    def __init__(self) -> None:
        self.frames = 0
        self._first_ns = self._last_ns = 0
        self._stages: dict[str, _Stage] = defaultdict(_Stage)
        self._title = "waiting for the first frame"
        self._lost = ""

    def add(self, done: FrameResult, stages_ns: dict[str, int], pipeline: Pipeline) -> None:
        self._last_ns = done.delivered_ns
        if not self.frames:
            self._first_ns = self._last_ns
        self.frames += 1
        self._lost = _losses(pipeline)
        for stage, duration_ns in stages_ns.items():
            self._stages[stage].add(duration_ns)
        size = f"  {done.result.rgb.shape[1]}x{done.result.rgb.shape[0]}" if isinstance(done.result, Picture) else ""
        report = pipeline.report
        runs_on = f"{report.engine}, {report.delegate}, {report.threads} threads" if report else ""
        self._title = f"{Path(done.result.source).name}{size}\n{done.model}  ({runs_on})"

    def table(self) -> Table:
        elapsed_s = (self._last_ns - self._first_ns) / 1e9
        rate = f"{(self.frames - 1) / elapsed_s:.2f} frames/s" if elapsed_s > 0 else "-"
        lost = f"; {self._lost}" if self._lost else ""
        table = Table(title=self._title, caption=f"{self.frames} frames, {rate}{lost}", title_justify="left")
        table.add_column("stage")
        for column in ("last ms", "mean ms", "max ms"):
            table.add_column(column, justify="right")
        for name, stage in self._stages.items():
            values_ns = (stage.last_ns, stage.sum_ns / stage.frames, stage.longest_ns)
            table.add_row(name, *(f"{value / 1e6:.2f}" for value in values_ns))
        return table
