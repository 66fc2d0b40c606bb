"""Valid calls of every public kernel, for the tests of its buffers and of its arguments.

A kernel is found by itself: it is a public function of `edge_isp.kernels` that calls compiled code. A new one without
calls here fails `test_buffers.test_every_public_kernel_is_covered`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numba.core.registry import CPUDispatcher
from numpy.typing import NDArray

import edge_isp.kernels
from edge_isp.kernels.defects import DefectPlan, plan_defects
from edge_isp.kernels.demosaic import METHODS
from edge_isp.kernels.demosaic import TONE_ENTRIES as DEVELOP_TONE_ENTRIES
from edge_isp.kernels.detect import level_tables
from edge_isp.kernels.layout import RawLayout, input_size, row_bytes
from edge_isp.kernels.residual import TONE_ENTRIES
from edge_isp.kernels.simulate import Conversion, PixelErrors, View
from edge_isp.kernels.squeeze import can_squeeze
from edge_isp.kernels.tables import Factors, node_places
from tests.kernels.sampling import LAYOUTS

# Makes an array of random bytes.
Allocate = Callable[[tuple[int, ...], Any], NDArray[Any]]
Arguments = dict[str, Any]

LARGER_CELLS = ((2, 16), (4, 1), (4, 3))
SIZES = ((4, 4), (8, 6), (26, 4), (66, 10), (130, 4))
# Not kernels: plain NumPy, and calls of every kernel.
_NOT_KERNELS = ("reference", "warmup")


def public_kernels() -> dict[str, Callable[..., Any]]:
    """The public functions that call compiled code, by module and name."""
    found = {}
    for module_name in (entry.name for entry in pkgutil.iter_modules(edge_isp.kernels.__path__)):
        if module_name in _NOT_KERNELS:
            continue
        module = importlib.import_module(f"edge_isp.kernels.{module_name}")
        for name, function in vars(module).items():
            is_own = inspect.isfunction(function) and function.__module__ == module.__name__
            if is_own and not name.startswith("_") and _calls_compiled_code(function, set()):
                found[f"{module_name}.{name}"] = function
    return found


def _calls_compiled_code(function: Any, seen: set[Any]) -> bool:
    if isinstance(function, CPUDispatcher):
        return True
    if not inspect.isfunction(function) or function in seen or not function.__module__.startswith("edge_isp.kernels"):
        return False
    called = (function.__globals__.get(name) for name in function.__code__.co_names)
    return any(_calls_compiled_code(value, seen | {function}) for value in called)


def calls(kernel: str, allocate: Allocate, *, at_end: bool) -> Iterator[Arguments]:
    """Valid calls of a kernel; the first is a usual one.

    Args:
        kernel: a key of `public_kernels()`.
        allocate: makes the arrays.
        at_end: whether frames end with their buffer; otherwise windows begin inside the frame.
    """
    return _CALLS[kernel](allocate, at_end)


def covered_kernels() -> set[str]:
    return set(_CALLS)


def _windows(
    allocate: Allocate, at_end: bool, packings: Any = LAYOUTS
) -> Iterator[tuple[NDArray[np.uint8], RawLayout]]:
    for packing, bit_depth in packings:
        for width, height in SIZES:
            # The window ends with the buffer, and at its end begins with it.
            left, top = (6, 2) if at_end else (0, 0)
            data = allocate((top + height, row_bytes(packing, bit_depth, left + width)), np.uint8)
            yield data, RawLayout(width, height, packing, bit_depth, "RGGB", left, top)


def _oriented(layout: RawLayout) -> Iterator[tuple[RawLayout, Arguments]]:
    for cfa in ("RGGB", "GBRG", "BGGR"):
        for flip in (False, True):
            yield replace(layout, cfa=cfa), {"flip_vertical": flip, "flip_horizontal": flip}


def _encode_shaded(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for data, window in _windows(allocate, at_end):
        entries, cells = window.highest + 1, window.cells
        places = [len(node_places(side)) for side in cells]
        for layout, flips in _oriented(window):
            call = {
                "data": data,
                "layout": layout,
                "tables": allocate((4, entries), np.uint16),  # corrupt: up to 65535
                "factors": Factors(allocate((*places, 4), np.uint16), 14),
                "zero_point": -128,
                **flips,
            }
            eight = call | {"out": allocate((*cells, 8), np.int8), "constants": allocate((4,), np.uint16)}
            yield eight | {"defects": _defects(layout)}
            yield eight
            yield call | {"out": allocate((*cells, 4), np.int8)}
            for cell, multiple in LARGER_CELLS:
                size = input_size(layout.width, layout.height, cell=cell, multiple=multiple)
                for defects in (None, _defects(layout)):
                    yield call | {
                        "out": allocate((*size, cell * cell + 4), np.int8),
                        "constants": allocate((4,), np.uint16),
                        "cell": cell,
                        "multiple": multiple,
                        "defects": defects,
                    }


def _block_statistics(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for data, layout in _windows(allocate, at_end):
        yield {"data": data, "layout": layout, "limits": (layout.highest,) * 4}


def _correlate_colours(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for count, lights, size in ((40, 3, 9), (1, 1, 2), (7, 2, 41)):
        rng = np.random.default_rng(count)
        call = {
            "colours": allocate((count, 3), np.float32),
            "weights": _table(allocate, (count,), np.float32),
            "levels": allocate((count,), np.int32),
            "matrices": allocate((lights, 3, 3), np.float32),
            "table": _table(allocate, (2, size, size), np.float32),
        }
        for largest in (1.0, 1e14):  # far beyond the table
            call["colours"][:] = rng.uniform(-largest, largest, (count, 3))
            call["matrices"][:] = rng.uniform(-largest, largest, (lights, 3, 3))
            call["levels"][:] = rng.integers(0, 2, count)
            yield call


def _defects(layout: RawLayout) -> DefectPlan:
    """Every corner is listed, and what stands out is searched."""
    corners = [(x, y) for x in (0, 1, layout.width - 1) for y in (0, 1, layout.height - 1)]
    return plan_defects(
        layout,
        black_level=(1.0, 1.0, 1.0, 1.0),
        white_level=layout.highest,
        gains=(2.0, 1.0, 1.5),
        shot_noise=2e-4,
        read_variance=1e-6,
        listed=corners,
    )


def _table(allocate: Allocate, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    table = allocate(shape, dtype)
    if dtype == np.float32:
        table[:] = 0  # random bytes may be NaN
    return table


def _encode(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for data, window in _windows(allocate, at_end):
        entries, cells = window.highest + 1, window.cells
        for layout, flips in _oriented(window):
            call = {"data": data, "layout": layout, **flips}
            yield call | {
                "out": allocate((*cells, 8), np.int8),
                "tables": allocate((4, entries), np.int8),
                "constants": allocate((4,), np.int8),
                "defects": _defects(layout),
            }
            yield call | {
                "out": allocate((*cells, 8), np.int8),
                "tables": allocate((4, entries), np.int8),
                "constants": allocate((4,), np.int8),
            }
            for cell, multiple in LARGER_CELLS:
                size = input_size(layout.width, layout.height, cell=cell, multiple=multiple)
                for defects in (None, _defects(layout)):
                    yield call | {
                        "out": allocate((*size, cell * cell + 4), np.int8),
                        "tables": allocate((4, entries), np.int8),
                        "constants": allocate((4,), np.int8),
                        "cell": cell,
                        "multiple": multiple,
                        "defects": defects,
                    }
            for dtype in (np.int8, np.uint8, np.int16, np.float32):
                tables = _table(allocate, (4, entries), dtype)
                yield call | {"out": allocate((*cells, 4), dtype), "tables": tables}


def _encode_resampled(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for data, window in _windows(allocate, at_end):
        for layout, flips in _oriented(window):
            for dtype in (np.int8, np.uint8, np.int16, np.float32):
                out = allocate((max(1, layout.height // 3), max(1, layout.width // 5), 4), dtype)
                tables = _table(allocate, (4, layout.highest + 1), dtype)
                for second_column in {False, layout.width > 2}:
                    call = {"data": data, "out": out, "layout": layout, "tables": tables, **flips}
                    yield call | {"second_column": second_column}


def _squeeze(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    packings = [(packing, bit_depth) for packing in ("u16", "u16-left") for bit_depth in (10, 12)]
    for data, layout in _windows(allocate, at_end, packings):
        if can_squeeze(layout):
            size = row_bytes("csi2p", layout.bit_depth, layout.width)
            yield {"data": data, "layout": layout, "out": allocate((layout.height, size), np.uint8)}


def _unpack(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for data, layout in _windows(allocate, at_end):
        for cut in (0, 1):
            odd = replace(layout, width=layout.width - cut, height=layout.height - cut)
            yield {"data": data, "layout": odd, "out": allocate((odd.height, odd.width), np.uint16)}


def _statistics(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for data, window in _windows(allocate, at_end):
        for layout, _ in _oriented(window):
            levels = {"black_level": (0, 0, 0, 0), "white_level": layout.highest}
            yield {"data": data, "layout": layout, "step": 1, **levels}


def _demosaic(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for data, window in _windows(allocate, at_end):
        for layout, _ in _oriented(window):
            for method in METHODS:
                out = allocate((layout.height, layout.width, 3), np.uint16)
                yield {"data": data, "out": out, "layout": layout, "method": method}


def _develop(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for data, window in _windows(allocate, at_end):
        for layout, _ in _oriented(window):
            for method in METHODS:
                yield {
                    "data": data,
                    "out": allocate((layout.height, layout.width, 3), np.uint8),
                    "layout": layout,
                    "method": method,
                    "tables": allocate((4, layout.highest + 1), np.uint16),  # up to 65535, where 16383 is expected
                    "matrix": np.array([[9.0, -1, 0], [0, 1, 0], [1e29, 0, -1e29]]),
                    "tone": allocate((DEVELOP_TONE_ENTRIES,), np.uint8),
                }


def _decode_rgb(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for width in (33, 1, 2, 7, 65):
        for table in (allocate((256,), np.uint8), np.arange(256, dtype=np.uint8)):
            for dtype in (np.int8, np.uint8):
                for bgr in (False, True):
                    for flip in (False, True):
                        yield {
                            "planes": allocate((3, width, 12), dtype),
                            "out": allocate((6, 2 * width, 3), np.uint8),
                            "table": table,
                            "bgr": bgr,
                            "flip_vertical": flip,
                            "flip_horizontal": flip,
                        }


def _decode_residual(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for height, width in ((3, 33), (1, 1), (2, 1), (1, 2), (4, 7), (3, 65)):
        for planes, channels in ((12, 8), (12, 4), (24, 8)):
            for flip in (False, True):
                yield {
                    "planes": allocate((height, width, planes), np.int8),
                    "encoded": allocate((height, width, channels), np.int8),
                    "out": allocate((2 * height, 2 * width, 3), np.uint8),
                    "matrix": np.array([[9.0, -1, 0], [0, 1, 0], [1e29, 0, -1e29]]),
                    "tone": allocate((TONE_ENTRIES,), np.uint8),
                    "flip_vertical": flip,
                    "flip_horizontal": flip,
                }
        for cell, multiple in LARGER_CELLS:
            size = input_size(2 * width, 2 * height, cell=cell, multiple=multiple)
            yield {
                "planes": allocate((*size, 3 * cell * cell), np.int8),
                "encoded": allocate((*size, cell * cell + 4), np.int8),
                "out": allocate((2 * height, 2 * width, 3), np.uint8),
                "matrix": np.array([[9.0, -1, 0], [0, 1, 0], [1e29, 0, -1e29]]),
                "tone": allocate((TONE_ENTRIES,), np.uint8),
                "cell": cell,
                "multiple": multiple,
            }


def _rgb_to_i420(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for width in (66, 2, 4, 14, 130):
        yield {"rgb": allocate((4, width, 3), np.uint8), "out": allocate((6, width), np.uint8)}


def _rgb_to_yuyv(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for width in (66, 2, 4, 14, 130):
        yield {"rgb": allocate((3, width, 3), np.uint8), "out": allocate((3, 2 * width), np.uint8)}


def _detect(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    logits = {"box": (0.05, 0), "objectness": (0.05, 0), "classes": (0.05, 0)}
    for cells, classes in (((5, 7), 80), ((1, 1), 1), ((2, 9), 3)):
        levels = [level_tables(stride, confidence=0.2, **logits) for stride in (8, 16)]
        yield {
            "outputs": [tuple(allocate((*cells, channels), np.int8) for channels in (4, 1, classes)) for _ in levels],
            "levels": levels,
            "iou_threshold": 0.5,
            "max_detections": 20,
        }


def _candidates(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for call in _detect(allocate, at_end):
        yield {"outputs": call["outputs"], "levels": call["levels"]}


def _suppress(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for count in (40, 1, 3, 129):
        boxes, scores, class_ids = (
            allocate((count, 4), np.float32),
            allocate((count,), np.float32),
            allocate((count,), np.int32),
        )
        rng = np.random.default_rng(count)
        boxes[:], scores[:] = rng.uniform(0, 50, boxes.shape), rng.uniform(0, 1, count)
        class_ids[:] = rng.choice([0, 1, 65535], count)
        yield {
            "boxes": boxes,
            "scores": scores,
            "class_ids": class_ids,
            "iou_threshold": 0.5,
            "max_detections": 7,
        }


def _scene_planes(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for height, width in ((5, 7), (1, 1)):
        yield {
            "photo": allocate((height, width, 3), np.uint8),
            "table": _table(allocate, (256,), np.float32),
            "matrix": _table(allocate, (3, 3), np.float32),
        }


def _simulate_frame(allocate: Allocate, at_end: bool) -> Iterator[Arguments]:
    for packing, bit_depth in (("csi2p", 10), ("csi2p", 12), ("u16", 14)):
        for width, height in ((10, 6), (4, 4), (130, 4), (2, 2)):
            planes = _table(allocate, (3, height + 3, width + 1), np.float32)
            defects = allocate((2, 2), np.int32)
            defects[:] = (0, width - 1), (height - 1, 0)
            yield {
                "planes": planes,
                "layout": RawLayout(width, height, packing, bit_depth, "GRBG"),
                "view": View(0, 0, planes.shape[2], planes.shape[1]),
                "conversion": Conversion(1.0, 1e-4, 1e-6, (64.0, 64.0, 64.0, 64.0), float(2**bit_depth - 1)),
                "errors": PixelErrors(
                    response=_table(allocate, (height, width), np.float32),
                    defects=defects,
                    defect_response=_table(allocate, (2,), np.float32),
                    defect_offset=_table(allocate, (2,), np.float32),
                ),
                "row_noise": _table(allocate, (height,), np.float32),
                "key": 7,
            }


_CALLS: dict[str, Callable[[Allocate, bool], Iterator[Arguments]]] = {
    "blocks.block_statistics": _block_statistics,
    "correlate.correlate_colours": _correlate_colours,
    "decode.decode_rgb": _decode_rgb,
    "decode.rgb_to_i420": _rgb_to_i420,
    "decode.rgb_to_yuyv": _rgb_to_yuyv,
    "demosaic.demosaic": _demosaic,
    "demosaic.develop": _develop,
    "detect.candidates": _candidates,
    "detect.detect": _detect,
    "detect.suppress": _suppress,
    "encode.encode": _encode,
    "shaded.encode_shaded": _encode_shaded,
    "resample.encode_resampled": _encode_resampled,
    "residual.decode_residual": _decode_residual,
    "simulate.scene_planes": _scene_planes,
    "simulate.simulate_frame": _simulate_frame,
    "squeeze.squeeze": _squeeze,
    "statistics.statistics": _statistics,
    "unpack.unpack": _unpack,
}
