"""What `edge-isp run` shows of its results: a live table, lines of text, lines of JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from edge_isp.cli.tables import figures_table
from edge_isp.pipeline import Consumer, DropReason, FrameResult, Pipeline
from edge_isp.results import Detections, Picture
from edge_isp.sinks.base import Sink


def found_line(detections: Detections) -> str:
    """The detections of a frame as one line of text."""
    objects = [
        f"{name} {confidence:.2f} ({x0:.0f}, {y0:.0f}, {x1:.0f}, {y1:.0f})"
        for name, confidence, (x0, y0, x1, y1) in zip(
            detections.names, detections.confidence, detections.xyxy, strict=True
        )
    ]
    return f"{Path(detections.source).name} {detections.sequence}: {', '.join(objects) or 'nothing'}"


def applied_lines(done: FrameResult) -> list[str]:
    """What was applied to a frame, and where it comes from: one line for each step."""
    applied = done.result.applied
    if applied is None:
        return []
    return [f"applied to frame {done.sequence} of {done.source}:", *(f"  {line}" for line in applied.lines())]


def losses(pipeline: Pipeline) -> str:
    """How many frames were lost, and why; empty where none was."""
    dropped = pipeline.counts.dropped
    causes = ", ".join(f"{cause} {frames}" for cause, frames in dropped.items())
    return f"{sum(dropped.values())} of {pipeline.counts.frames} frames lost: {causes}" if dropped else ""


def sink_losses(accounts: Sequence[tuple[Consumer, Sink]]) -> list[str]:
    """How many results each sink lost, and why: a line for each that lost any."""
    lines = []
    for consumer, sink in accounts:
        counts = consumer.counts
        # What was in flight at the end was for nobody; what came after `--frames` neither.
        dropped = {str(cause): number for cause, number in counts.dropped.items() if cause is DropReason.SINK_SLOW}
        if unsent := getattr(sink, "lost", 0):
            dropped["not sent"] = unsent
        if dropped:
            causes = ", ".join(f"{cause} {number}" for cause, number in dropped.items())
            lines.append(f"{consumer.name}: {sum(dropped.values())} of {counts.frames} results lost: {causes}")
    return lines


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


class Summary:
    """The stages' times so far, as a live table."""

    def __init__(self) -> None:
        self.frames = 0
        self._first_ns = self._last_ns = 0
        self._stages: dict[str, _Stage] = defaultdict(_Stage)
        self._title = "waiting for the first frame"
        self._lost = ""

    def add(self, done: FrameResult, stages_ns: dict[str, int], pipeline: Pipeline) -> None:
        """Takes in a result."""
        self._last_ns = done.delivered_ns
        if not self.frames:
            self._first_ns = self._last_ns
        self.frames += 1
        self._lost = losses(pipeline)
        for stage, duration_ns in stages_ns.items():
            self._stages[stage].add(duration_ns)
        size = f"  {done.result.rgb.shape[1]}x{done.result.rgb.shape[0]}" if isinstance(done.result, Picture) else ""
        report = pipeline.report
        runs_on = f"{report.engine}, {report.delegate}, {report.threads} threads" if report else ""
        self._title = f"{Path(done.result.source).name}{size}\n{done.model}  ({runs_on})"

    def table(self) -> Table:
        """The table of now."""
        elapsed_s = (self._last_ns - self._first_ns) / 1e9
        rate = f"{(self.frames - 1) / elapsed_s:.2f} frames/s" if elapsed_s > 0 else "-"
        lost = f"; {self._lost}" if self._lost else ""
        table = figures_table(self._title, "stage", "last ms", "mean ms", "max ms")
        table.caption, table.caption_justify = f"{self.frames} frames, {rate}{lost}", "left"
        for name, stage in self._stages.items():
            values_ns = (stage.last_ns, stage.sum_ns / stage.frames, stage.longest_ns)
            table.add_row(name, *(f"{value / 1e6:.2f}" for value in values_ns))
        return table
