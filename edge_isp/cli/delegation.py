"""What runs the model, in words."""

from __future__ import annotations

from edge_isp.engines.base import EngineReport, Partition

_CPU = ("XNNPACK", "none", "CPUExecutionProvider")


def explain(report: EngineReport) -> str:
    """What runs the model, and why; of a report made after the first frame."""
    chosen = [event for event in report.events if event.kind == "chosen"]
    if report.delegate not in _CPU:
        return f"runs on '{report.delegate}': {chosen[-1].reason}"
    if chosen:
        why = f"'{chosen[-1].delegate}' was lost: it {chosen[-1].reason}"
    else:
        tried = [event.delegate for event in report.events if event.kind == "refused" and event.delegate not in _CPU]
        why = f"tried: {', '.join(dict.fromkeys(tried))}" if tried else "there is no NPU: see 'edge-isp doctor'"
    return f"runs on the CPU ({report.engine}, {report.delegate}); {why}"


def report_lines(report: EngineReport, cell: int) -> list[str]:
    """The whole report, as lines of a name and a value.

    Args:
        report: of the engine.
        cell: side in pixels of the cells of the model's input.
    """
    lines = [("engine", f"{report.engine}, {report.threads} threads")]
    delegated = f"{report.delegate}: {report.nodes_delegated} of {report.nodes} nodes" if report.nodes else ""
    lines.append(("delegate", delegated or report.delegate))
    lines += [("", f"{partition.executor} runs {_operators(partition)}") for partition in report.partitions]
    if report.first_inference_ns:
        cpu = f", CPU {report.cpu_ns / 1e6:.1f} ms" if report.cpu_ns else ""
        lines.append(
            ("inference", f"first {report.first_inference_ns / 1e6:.1f} ms, then {report.steady_ns / 1e6:.1f} ms{cpu}")
        )
    if report.parity:
        agreement = report.parity
        lines.append(
            (
                "agreement",
                f"{agreement.equal:.1%} of values equal to the CPU's, {agreement.rms_lsb:.2f} LSB rms, "
                f"{agreement.max_lsb:g} at most",
            )
        )
    if report.tile:
        lines.append(
            ("tiles", f"of {cell * report.tile[1]}x{cell * report.tile[0]} pixels; an inference is of one tile")
        )
    lines.append(("frames", ", ".join(f"{name} {count}" for name, count in report.frames)))
    lines += [
        (event.kind, f"{event.delegate} after {event.frame} frames: {event.reason}")
        for event in report.events
        if event.kind in ("dropped", "restored")
    ]
    return [f"{name:<10} {text}" for name, text in lines]


def _operators(partition: Partition) -> str:
    return ", ".join(f"{count} {name}" for name, count in partition.operators)
