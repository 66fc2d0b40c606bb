"""Compiling, or loading from the cache (`cache.py`), before the first frame, since a first call takes seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from edge_isp.kernels import (
    blocks,
    correlate,
    decode,
    defect_candidates,
    defect_weighing,
    defects,
    demosaic,
    detect,
    encode,
    progress,
    resample,
    residual,
    rows,
    shaded,
    simulate,
    squeeze,
    unpack,
)
from edge_isp.kernels import statistics as statistics_module
from edge_isp.kernels.blocks import block_statistics
from edge_isp.kernels.compiled import compile_listeners
from edge_isp.kernels.correlate import correlate_colours
from edge_isp.kernels.decode import decode_rgb, output_table, rgb_to_i420, rgb_to_yuyv
from edge_isp.kernels.demosaic import LINEAR_WHITE, TONE_ENTRIES, develop
from edge_isp.kernels.encode import encode as encode_frame
from edge_isp.kernels.layout import RawLayout
from edge_isp.kernels.resample import encode_resampled
from edge_isp.kernels.shaded import encode_shaded
from edge_isp.kernels.statistics import statistics
from edge_isp.kernels.tables import lens_factors, node_places
from edge_isp.kernels.unpack import unpack as unpack_frame

DTYPES = (np.int8, np.uint8, np.int16, np.float32)

_FRAME = np.zeros((8, 8), np.uint8)
_PLANES = np.zeros((4, 4, 12), np.int8)
_LAYOUT = RawLayout(8, 8, "u8", 8, "RGGB")

# Of two pipelines that are made at once, the second finds everything compiled.
_one_at_a_time = threading.Lock()


def compile_pipeline_kernels(task: str = "isp") -> None:
    """Loads or compiles what a pipeline needs. `edge_isp.kernels.progress` shows it where something is compiled.

    Args:
        task: "isp", frames to pictures by a network, or "detector", frames to boxes.
    """
    steps: dict[str, Callable[[], object]]
    if task == "detector":
        steps = {
            "block_statistics": _block_statistics,
            "correlate_colours": _correlate_colours,
            "encode_resampled to int8": partial(_encode_resampled, np.int8),
            "detect": _detect,
        }
    else:
        steps = {
            "block_statistics": _block_statistics,
            "correlate_colours": _correlate_colours,
            "encode to int8": partial(_encode, np.int8),
            "encode with defects replaced": _encode_mended,
            "encode_shaded": _encode_shaded,
            "decode_rgb": _decode_rgb,
            "decode_residual": _decode_residual,
        }
    _compile(steps)


def compile_kernels() -> tuple[int, int]:
    """Loads or compiles every kernel, for every dtype of output.

    Returns:
        How many functions were compiled, and how many came from the cache.
    """
    steps: dict[str, Callable[[], object]] = {
        "statistics": _statistics,
        "block_statistics": _block_statistics,
        "correlate_colours": _correlate_colours,
    }
    for dtype in DTYPES:
        steps[f"encode to {np.dtype(dtype)}"] = partial(_encode, dtype)
        steps[f"encode_resampled to {np.dtype(dtype)}"] = partial(_encode_resampled, dtype)
    steps |= {
        "encode with defects replaced": _encode_mended,
        "encode_shaded": _encode_shaded,
        "decode_rgb": _decode_rgb,
        "decode_residual": _decode_residual,
        "rgb_to_i420": lambda: rgb_to_i420(np.zeros((8, 8, 3), np.uint8), np.empty((12, 8), np.uint8)),
        "rgb_to_yuyv": lambda: rgb_to_yuyv(np.zeros((8, 8, 3), np.uint8), np.empty((8, 16), np.uint8)),
        "detect": _detect,
        "unpack": lambda: unpack_frame(_FRAME, _LAYOUT),
        "squeeze": _squeeze,
        "demosaic": _demosaic,
        "develop": _develop,
        "simulate_frame": _simulate,
    }
    _compile(steps)
    return counts()


def _compile(steps: Mapping[str, Callable[[], object]]) -> None:
    """Calls each kernel once, and tells the program of it from the first one that has to be compiled.

    Args:
        steps: the calls by the kernel's name.
    """
    done, name, reported = 0, "", -1

    def missed() -> None:
        nonlocal reported
        if reported != done:  # a kernel calls others, which are missing as well
            reported = done
            progress.report(progress.Compilation(done, len(steps), name))

    with _one_at_a_time:
        compile_listeners.append(missed)
        try:
            for done, (name, call) in enumerate(steps.items()):  # noqa: B007 (`missed` reads them)
                call()
        finally:
            compile_listeners.remove(missed)
            if reported >= 0:
                progress.report(progress.Compilation(len(steps), len(steps), ""))


def _statistics() -> None:
    statistics(_FRAME, _LAYOUT, black_level=(0, 0, 0, 0), white_level=255)


def _block_statistics() -> None:
    block_statistics(_FRAME, _LAYOUT, limits=(250, 250, 250, 250))


def _correlate_colours() -> None:
    matrices = np.eye(3, dtype=np.float32)[None]
    ones = np.ones((1, 3), np.float32)
    correlate_colours(ones, ones[:, 0], np.zeros(1, np.int32), matrices, np.zeros((1, 2, 2), np.float32))


def _decode_rgb() -> None:
    decode_rgb(_PLANES, np.empty((8, 8, 3), np.uint8), output_table(1 / 255, -128))


def _decode_residual() -> None:
    tone = np.zeros(residual.TONE_ENTRIES, np.uint8)
    picture = np.empty((8, 8, 3), np.uint8)
    residual.decode_residual(_PLANES, np.zeros((4, 4, 8), np.int8), picture, matrix=np.eye(3), tone=tone)


def _demosaic() -> None:
    for layout in (_LAYOUT, RawLayout(4, 8, "u16", 12, "RGGB")):  # sums of 16 and of 32 bits
        demosaic.demosaic(_FRAME, np.empty((8, layout.width, 3), np.uint16), layout)


def _develop() -> None:
    develop(
        _FRAME,
        np.empty((8, 8, 3), np.uint8),
        _LAYOUT,
        tables=np.full((4, 256), LINEAR_WHITE, np.uint16),
        matrix=np.eye(3),
        tone=np.zeros(TONE_ENTRIES, np.uint8),
    )


def _encode(dtype: DTypeLike) -> None:
    out = np.empty((4, 4, 4), dtype)
    encode_frame(_FRAME, out, _LAYOUT, tables=np.zeros((4, 256), dtype))


def _encode_mended() -> None:
    out = np.empty((4, 4, 4), np.int8)
    encode_frame(_FRAME, out, _LAYOUT, tables=np.zeros((4, 256), np.int8), defects=_plan_defects())


def _plan_defects() -> defects.DefectPlan:
    return defects.plan_defects(
        _LAYOUT, black_level=(0, 0, 0, 0), white_level=255, gains=(1, 1, 1), shot_noise=1e-4, read_variance=1e-7
    )


def _encode_shaded() -> None:
    factors = lens_factors(np.ones((len(node_places(4)), len(node_places(4)), 4)), "sqrt")
    steps, out = np.zeros((4, 256), np.uint16), np.empty((4, 4, 4), np.int8)
    for plan in (None, _plan_defects()):
        encode_shaded(_FRAME, out, _LAYOUT, tables=steps, factors=factors, zero_point=-128, defects=plan)


def _encode_resampled(dtype: DTypeLike) -> None:
    out = np.empty((2, 2, 4), dtype)
    encode_resampled(_FRAME, out, _LAYOUT, tables=np.zeros((4, 256), dtype))


def _simulate() -> None:
    planes = simulate.scene_planes(
        np.zeros((8, 8, 3), np.uint8), np.zeros(256, np.float32), np.eye(3, dtype=np.float32)
    )
    conversion = simulate.Conversion(
        exposure=1.0,
        electron=1.0,
        read_variance=0.0,
        black_level=(0.0, 0.0, 0.0, 0.0),
        white_level=1023.0,
    )
    simulate.simulate_frame(
        planes,
        RawLayout(8, 8, "csi2p", 10, "RGGB"),
        view=simulate.View(0.0, 0.0, 8.0, 8.0),
        conversion=conversion,
        errors=simulate.ideal_pixels(),
        row_noise=np.zeros(8, np.float32),
        key=0,
    )


def compile_recording_kernels() -> None:
    """Loads or compiles what a recorder needs, before the first frame comes."""
    _compile({"squeeze": _squeeze})


def _squeeze() -> None:
    for bit_depth, size in ((10, 10), (12, 12)):
        layout = RawLayout(8, 2, "u16", bit_depth, "RGGB")
        squeeze.squeeze(np.zeros((2, 16), np.uint8), layout, np.empty((2, size), np.uint8))


def _detect() -> None:
    level = detect.level_tables(8, box=(1, 0), objectness=(1, 0), classes=(1, 0), confidence=0.1)
    box, objectness, classes = (np.zeros((1, 1, channels), np.int8) for channels in (4, 1, 2))
    detect.detect([(box, objectness, classes)], [level], iou_threshold=0.5, max_detections=1)


def counts() -> tuple[int, int]:
    """How many functions this process compiled, and how many it took from the cache."""
    modules = (
        blocks,
        correlate,
        rows,
        unpack,
        encode,
        shaded,
        resample,
        decode,
        residual,
        statistics_module,
        demosaic,
        defect_candidates,
        defect_weighing,
        defects,
        detect,
        simulate,
        squeeze,
    )
    stats = [value.stats for module in modules for value in vars(module).values() if hasattr(value, "stats")]
    return sum(sum(s.cache_misses.values()) for s in stats), sum(sum(s.cache_hits.values()) for s in stats)
