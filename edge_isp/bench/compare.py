"""Two reports compared, and limits of how much worse the later one may be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edge_isp.bench.report import Cell, Distribution, Matrix, Report
from edge_isp.errors import BenchError

_STATISTICS = ("mean", "min", "p50", "p90", "p95", "p99", "p999", "max")
_RATES = ("sensor_fps", "captured_fps", "processed_fps", "delivered_fps")
_SHOWN = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a figure may change.

    Attributes:
        figure: "p95" (of the latency, or of a model's inference), "infer.p95" (of a stage), or "delivered_fps".
        percent: +10 allows a tenth more, -5 a twentieth less.
    """

    figure: str
    percent: float

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Reads a limit.

        Args:
            text: such as "p95:+10%".

        Raises:
            BenchError: it cannot be understood.
        """
        match = re.fullmatch(r"([\w.]+):([+-]\d+(?:\.\d+)?)%", text)
        if match is None:
            raise BenchError(f"limit must be FIGURE:+N% or FIGURE:-N%, such as 'p95:+10%', found '{text}'")
        limit = cls(match[1], float(match[2]))
        known = limit.figure in _RATES or limit.figure.rpartition(".")[2] in _STATISTICS
        if not known:
            raise BenchError(
                f"limit '{text}': no figure '{limit.figure}'; there are {', '.join(_STATISTICS)}, of a stage with its "
                f"name before it ('infer.p95'), and {', '.join(_RATES)}"
            )
        return limit

    def exceeded(self, percent: float) -> bool:
        """Whether a change is more than is allowed, in the direction of the limit.

        Args:
            percent: the change.
        """
        return percent > self.percent if self.percent >= 0 else percent < self.percent


@dataclass(frozen=True, slots=True)
class Change:
    """A figure before and after.

    Attributes:
        figure: its name ("e2e.p95").
        old: its value in the earlier report.
        new: its value in the later report.
    """

    figure: str
    old: float
    new: float

    @property
    def percent(self) -> float:
        """The change in percent of the old value."""
        return 100 * (self.new - self.old) / self.old if self.old else 0.0 if self.new == self.old else float("inf")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed.

    Attributes:
        changes: the figures that both reports have.
        differs: what makes the two hard to compare: another machine, another model.
        failures: the limits that are exceeded.
    """

    changes: list[Change]
    differs: list[str]
    failures: list[str]


def compare_reports(old: Report, new: Report, limits: list[Limit]) -> Comparison:
    """Compares a report with an earlier one of the same kind.

    Args:
        old: the earlier report.
        new: the later report.
        limits: how much figures may change.

    Raises:
        BenchError: they are of different kinds, or one has no figure that a limit names.
    """
    if old.kind != new.kind:
        raise BenchError(f"cannot compare a report of kind '{new.kind}' with one of kind '{old.kind}'")
    shown = [f"{stage.name}.{statistic}" for stage in new.stages for statistic in _SHOWN]
    shown += [f"e2e.{statistic}" for statistic in _SHOWN] if new.latency else []
    shown += _RATES
    changes = [
        Change(name, before, after)
        for name in shown
        if (before := _figure(old, name)) is not None and (after := _figure(new, name)) is not None
    ]
    failures = []
    for limit in limits:
        before, after = _figure(old, limit.figure), _figure(new, limit.figure)
        if before is None or after is None:
            raise BenchError(f"there is no '{limit.figure}' in {'the earlier' if before is None else 'this'} report")
        change = Change(limit.figure, before, after)
        if limit.exceeded(change.percent):
            failures.append(f"{limit.figure}: {change.percent:+.1f} %, allowed {limit.percent:+g} %")
    return Comparison(changes, _differences(old, new), failures)


@dataclass(frozen=True, slots=True)
class CellComparison:
    """One combination on several boards.

    Attributes:
        cell: the combination, as it was measured now.
        p50_ns: the median inference of each matrix that was compared, and now's at the end; None where it was not
            measured.
    """

    cell: Cell
    p50_ns: tuple[float | None, ...]


def compare_matrices(earlier: Sequence[Matrix], new: Matrix) -> list[CellComparison]:
    """The same combinations, on other boards or at other times.

    Args:
        earlier: what they are compared with.
        new: whose combinations are compared.
    """
    found = [{_key(cell): _median(cell) for cell in matrix.cells} for matrix in earlier]
    return [CellComparison(cell, (*(each.get(_key(cell)) for each in found), _median(cell))) for cell in new.cells]


def matrix_failures(earlier: Sequence[Matrix], new: Matrix, limits: list[Limit]) -> list[str]:
    """The limits that combinations exceed, and those that were measured earlier and cannot be measured now.

    Args:
        earlier: what they are compared with.
        new: whose combinations are compared.
        limits: how much figures may change; without any, nothing fails.

    Raises:
        BenchError: a report has no figure that a limit names.
    """
    failures = []
    for matrix in earlier if limits else ():
        before = {_key(cell): cell.report for cell in matrix.cells}
        for cell in new.cells:
            old = before.get(_key(cell))
            name = (
                f"{cell.model} {cell.width}x{cell.height}, {cell.engine or ''} {cell.delegate}, {cell.threads} threads"
            )
            if old is not None and cell.report is None:
                failures.append(f"{name}: {cell.error}")
            elif old is not None and cell.report is not None:
                failures += [f"{name}: {text}" for text in compare_reports(old, cell.report, limits).failures]
    return failures


def _key(cell: Cell) -> tuple[object, ...]:
    """What makes two cells the same combination; an engine may have other options on another board."""
    return (cell.model, cell.width, cell.height, cell.engine, cell.delegate.partition(",")[0], cell.threads)


def _median(cell: Cell) -> float | None:
    return None if cell.report is None else _figure(cell.report, "infer.p50")


def _figure(report: Report, name: str) -> float | None:
    if name in _RATES:
        value: float | None = getattr(report.rates, name)
        return value
    of, _, statistic = name.rpartition(".")
    found = _distributions(report).get(of or ("e2e" if report.latency else "infer"))
    if found is None or statistic not in _STATISTICS:
        return None
    return float(getattr(found, statistic))


def _distributions(report: Report) -> dict[str, Distribution]:
    found = {stage.name: stage for stage in report.stages}
    return found | {"e2e": report.latency.e2e} if report.latency else found


def _differences(old: Report, new: Report) -> list[str]:
    pairs = {
        "board": (old.host.board or old.host.soc, new.host.board or new.host.soc),
        "CPUs": (old.host.cpu_count, new.host.cpu_count),
        "governor": (old.host.governor, new.host.governor),
        "model": (old.model.sha256[:12], new.model.sha256[:12]),
        "input": (old.model.input_shape, new.model.input_shape),
        "threads": (old.settings.threads, new.settings.threads),
        "delegate": (_executor(old), _executor(new)),
        "policy": (old.settings.policy, new.settings.policy),
        "camera rate": (_camera_rate(old), _camera_rate(new)),
    }
    found = [f"{what}: {before} then, {after} now" for what, (before, after) in pairs.items() if before != after]
    for when, report in (("then", old), ("now", new)):
        found += [f"INVALID {when}: {reason}" for reason in report.invalid_reasons]
    return found


def _executor(report: Report) -> str | None:
    return report.software.delegate.name if report.software.delegate else None


def _camera_rate(report: Report) -> float | None:
    return report.camera.requested_fps if report.camera else None
