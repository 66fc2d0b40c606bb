"""Two reports compared, and limits of how much worse the later one may be."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_isp.bench.report import Distribution, Report
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
        "policy": (old.settings.policy, new.settings.policy),
        "camera rate": (_camera_rate(old), _camera_rate(new)),
    }
    found = [f"{what}: {before} then, {after} now" for what, (before, after) in pairs.items() if before != after]
    for when, report in (("then", old), ("now", new)):
        found += [f"INVALID {when}: {reason}" for reason in report.invalid_reasons]
    return found


def _camera_rate(report: Report) -> float | None:
    return report.camera.requested_fps if report.camera else None
