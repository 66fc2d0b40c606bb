"""The time from RAW bytes to boxes, and of what it is compared with, in one run: through a picture, and in float32."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console
from rich.table import Table

from edge_isp.engines.litert import LiteRtEngine
from edge_isp.evaluation.progress import progress
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.kernels.resample import letterbox
from edge_isp.models.card import find_model
from edge_isp.tasks.detect import DetectTask
from edge_isp.tasks.isp import IspTask
from edge_isp.training.detector.data import BORDER
from edge_isp.training.export.onnx_float import to_float_onnx
from edge_isp.training.export.tflite import to_float_tflite, to_tflite
from edge_isp.training.graph import trace
from edge_isp.training.networks.yolox import YoloxNano
from edge_isp.training.quantisation.silu import min_max_quantised

_PACKING, _BIT_DEPTH = Packing.CSI2P, 10


@dataclass(frozen=True, slots=True)
class PathTiming:
    """Time of one path from RAW to boxes, or of a part of it.

    Attributes:
        path: what was timed.
        min_ms: shortest of the rounds.
        median_ms: median of the rounds.
    """

    path: str
    min_ms: float
    median_ms: float


def run_detector_speed(
    model: str, isp: str, *, width: int, height: int, size: int, threads: int, rounds: int, console: Console
) -> list[PathTiming]:
    """Measures with progress shown.

    Args:
        model: a detector.
        isp: the ISP model whose pictures the teacher would look at.
        width: of the frame in pixels.
        height: of the frame in pixels.
        size: of the detector's input in pixels.
        threads: of each runtime.
        rounds: how often each path runs, in turn.
        console: where progress is shown.

    Raises:
        ModelError: there is no such model.
    """
    with (
        _paths(model, isp, width, height, size, threads) as paths,
        progress(console, "rounds", rounds) as report,
    ):
        times_ms: dict[str, list[float]] = {name: [] for name in paths}
        for run in paths.values():
            run()
        for _ in range(rounds):
            for name, run in paths.items():
                started = time.perf_counter()
                run()
                times_ms[name].append((time.perf_counter() - started) * 1e3)
            report("rounds")
    return [PathTiming(name, min(values), statistics.median(values)) for name, values in times_ms.items()]


def speed_table(timings: list[PathTiming], title: str) -> Table:
    """A row for each path.

    Args:
        timings: the first is what the others are compared with.
        title: of the table.
    """
    table = Table("path", title=title, title_justify="left")
    for column in ("median, ms", "shortest, ms", "times the first"):
        table.add_column(column, justify="right")
    for timing in timings:
        times = timing.median_ms / timings[0].median_ms
        table.add_row(timing.path, f"{timing.median_ms:.2f}", f"{timing.min_ms:.2f}", f"{times:.2f}")
    return table


@contextmanager
def _paths(
    model: str, isp: str, width: int, height: int, size: int, threads: int
) -> Iterator[dict[str, Callable[[], object]]]:
    card, isp_card = find_model(model, None), find_model(isp, None)
    cells = size // 2
    top, left, inner_height, inner_width = letterbox((height // 2, width // 2), (cells, cells))
    with (
        LiteRtEngine(card.path, threads=threads) as detector,
        LiteRtEngine(isp_card.path, threads=threads) as pictures,
    ):
        task, isp_task = DetectTask(card, input_size=size), IspTask(isp_card)
        frame, small = _frame(width, height), _frame(2 * inner_width, 2 * inner_height)
        mosaic = np.empty(task.input_shape(frame.format), np.int8)
        tensor = np.empty(isp_task.input_shape(small.format), np.int8)
        detector.resize(mosaic.shape)
        pictures.resize(tensor.shape)
        task.encode(frame, mosaic)
        found = detector.run([mosaic])
        teacher = _interpreter(_int8(YoloxNano(planes=12), cells, 12), threads)
        planes = np.full((1, cells, cells, 12), BORDER - 128, np.int8)

        def raw_to_boxes() -> None:
            task.encode(frame, mosaic)
            task.decode(detector.run([mosaic]), frame, mosaic)

        def through_a_picture() -> None:
            task.encode(frame, mosaic)  # the frame is made smaller, as it is for the detector
            isp_task.encode(small, tensor)
            rgb = isp_task.decode(pictures.run([tensor]), small, tensor).rgb
            inside = planes[0, top : top + inner_height, left : left + inner_width]
            for place, (y, x) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
                inside[..., 3 * place : 3 * place + 3] = (rgb[y::2, x::2, ::-1] ^ 0x80).view(np.int8)
            teacher.set_tensor(teacher.get_input_details()[0]["index"], planes)
            teacher.invoke()
            # Its weights are random: what is decoded are the detector's own outputs, which are as large.
            task.decode(found, frame, mosaic)

        student = YoloxNano().eval()
        float_litert = _interpreter(to_float_tflite(trace(student), height=cells, width=cells), threads)
        yield {
            "RAW to boxes, int8": raw_to_boxes,
            f"{isp_card.name} at {small.format.width}x{small.format.height}, then the int8 teacher": through_a_picture,
            "the network alone, int8, LiteRT": lambda: detector.run([mosaic]),
            "the network alone, float32, LiteRT": float_litert.invoke,
            "the network alone, float32, ONNX Runtime": _float_onnx(student, cells, threads),
            "decoding and suppression alone": lambda: task.decode(found, frame, mosaic),
        }


def _int8(network: YoloxNano, cells: int, planes: int) -> bytes:
    quantised = min_max_quantised(trace(network.eval()), [torch.rand(1, planes, 32, 32)])
    return to_tflite(quantised, height=cells, width=cells, channels=planes)


def _interpreter(content: bytes, threads: int) -> Interpreter:
    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def _float_onnx(network: YoloxNano, cells: int, threads: int) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads would go on spinning while the next path is timed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = to_float_onnx(network, height=cells, width=cells, channels=4, merged=True)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((1, 4, cells, cells), np.float32)
    source = session.get_inputs()[0].name
    return lambda: session.run(None, {source: x})


def _frame(width: int, height: int) -> RawFrame:
    codes = np.random.default_rng(0).integers(64, 1024, (height, width)).astype(np.uint16)
    layout = RawFormat(width, height, Cfa.RGGB, _BIT_DEPTH, _PACKING)
    return RawFrame(
        data=pack(codes, packing=_PACKING, bit_depth=_BIT_DEPTH),
        format=layout,
        source="noise",
        sequence=0,
        timestamp_ns=0,
        black_level=(64.0, 64.0, 64.0, 64.0),
        white_level=1023.0,
        sensor="imx219",
        analogue_gain=1.0,
        colour_gains=(1.75, 1.43),
        colour_temperature_k=5700.0,
        lens_shading=False,
    )
