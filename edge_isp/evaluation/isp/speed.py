"""The time of a network in every form that it takes, in one run: int8 and float32, merged and branch by branch."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console
from rich.table import Table

from edge_isp.evaluation.progress import progress
from edge_isp.training.export.onnx_float import to_float_onnx
from edge_isp.training.export.tflite import to_tflite
from edge_isp.training.graph import trace
from edge_isp.training.isp.architectures import architecture_of
from edge_isp.training.networks.ecb import merge
from edge_isp.training.quantisation.post_training import quantise

INT8, MERGED, BRANCHES = "int8, LiteRT", "float32 merged, ONNX Runtime", "float32 branches, ONNX Runtime"


@dataclass(frozen=True, slots=True)
class Timing:
    """Time of one form of a network.

    Attributes:
        network: name of its architecture.
        form: `INT8`, `MERGED` or `BRANCHES`.
        gmac: thousand million multiplications per frame, merged.
        min_ms: shortest of the rounds.
        median_ms: median of the rounds.
    """

    network: str
    form: str
    gmac: float
    min_ms: float
    median_ms: float


def measure_speed(
    networks: list[str],
    *,
    width: int,
    height: int,
    threads: int,
    rounds: int,
    report: Callable[[], None] = lambda: None,
) -> list[Timing]:
    """Runs all forms of all networks in turn, round by round, so that other load on the machine affects all alike.

    Weights and inputs are random: the time does not depend on them.

    Args:
        networks: names of architectures.
        width: of the frame in pixels, even.
        height: of the frame in pixels, even.
        threads: of each runtime.
        rounds: how often each form runs.
        report: called after each round.
    """
    forms = {(name, form): run for name in networks for form, run in _forms(name, height, width, threads)}
    for run in forms.values():
        run()
    times_ms: dict[tuple[str, str], list[float]] = {key: [] for key in forms}
    for _ in range(rounds):
        for key, run in forms.items():
            started = time.perf_counter()
            run()
            times_ms[key].append((time.perf_counter() - started) * 1e3)
        report()
    return [
        Timing(name, form, _gmac(name, height, width), min(values), statistics.median(values))
        for (name, form), values in times_ms.items()
    ]


def run_speed(
    networks: list[str], *, width: int, height: int, threads: int, rounds: int, console: Console
) -> list[Timing]:
    """Measures with progress shown.

    Args:
        networks: names of architectures.
        width: of the frame in pixels, even.
        height: of the frame in pixels, even.
        threads: of each runtime.
        rounds: how often each form runs.
        console: where progress is shown.

    Raises:
        ModelError: there is no such network.
    """
    for name in networks:
        architecture_of(name)
    with progress(console, "rounds", rounds) as report:
        return measure_speed(
            networks, width=width, height=height, threads=threads, rounds=rounds, report=lambda: report("rounds")
        )


def speed_table(timings: list[Timing], title: str) -> Table:
    """A row for each network and form.

    Args:
        timings: of all forms of each network.
        title: of the table.
    """
    table = Table("network", "form", title=title, title_justify="left")
    for column in ("GMAC", "median, ms", "shortest, ms", "times int8"):
        table.add_column(column, justify="right")
    int8_ms = {timing.network: timing.median_ms for timing in timings if timing.form == INT8}
    for timing in timings:
        table.add_row(
            timing.network,
            timing.form,
            f"{timing.gmac:.1f}",
            f"{timing.median_ms:.1f}",
            f"{timing.min_ms:.1f}",
            f"{timing.median_ms / int8_ms[timing.network]:.1f}",
        )
    return table


def _forms(name: str, height: int, width: int, threads: int) -> list[tuple[str, Callable[[], Any]]]:
    """The forms of a network, ready to run."""
    architecture = architecture_of(name)
    network, channels = architecture.build(), architecture.colour.input_planes
    samples = [torch.rand(1, channels, 32, 32)]
    height, width = _cells(name, height), _cells(name, width)
    quantised = quantise(trace(merge(network).eval()), samples, output=architecture.colour.output)
    interpreter = Interpreter(
        model_content=to_tflite(quantised, height=height, width=width, channels=channels), num_threads=threads
    )
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    codes = rng.integers(-128, 128, (1, height, width, channels)).astype(np.int8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], codes)
    x = rng.random((1, channels, height, width), np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads would go on spinning while the next form is timed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def session(merged: bool) -> Callable[[], Any]:
        content = to_float_onnx(network, height=height, width=width, channels=channels, merged=merged)
        opened = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        source = opened.get_inputs()[0].name
        return lambda: opened.run(None, {source: x})

    return [(INT8, interpreter.invoke), (MERGED, session(True)), (BRANCHES, session(False))]


def _cells(name: str, pixels: int) -> int:
    """Rows or columns of a network's input, of a frame's height or width in pixels."""
    architecture = architecture_of(name)
    multiple = trace(merge(architecture.build()).eval()).input_multiple
    return math.ceil(pixels / architecture.colour.cell / multiple) * multiple


def _gmac(name: str, height: int, width: int) -> float:
    graph = trace(merge(architecture_of(name).build()).eval())
    tensors = graph.run(torch.zeros(1, architecture_of(name).colour.input_planes, 32, 32))
    macs = sum(
        node.weight.numel() * tensors[node.name].shape[2] * tensors[node.name].shape[3] / 32**2
        for node in graph.nodes
        if node.weight is not None
    )
    return macs * _cells(name, height) * _cells(name, width) / 1e9
