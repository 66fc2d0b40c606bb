"""The speed of the kernels, compared with a copy, NumPy and OpenCV.

Method: one thread; random codes, which no cache or predictor can learn (for defects a noisy slope); each kernel in turn
with its comparisons, over and over, so that other programs disturb all of them alike; ratios are of the shortest times.
A copy is `numpy.copyto` of as many bytes as the kernel reads and writes together, half of them read and half written.
"""

from __future__ import annotations

import platform
import statistics as stdlib_statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from edge_isp.board import Board
from edge_isp.calibration.light import srgb_encode
from edge_isp.kernels import reference
from edge_isp.kernels.decode import decode_rgb, output_table, rgb_to_i420, rgb_to_yuyv
from edge_isp.kernels.defects import plan_defects
from edge_isp.kernels.demosaic import LINEAR_WHITE, TONE_ENTRIES, demosaic, develop
from edge_isp.kernels.detect import detect, level_tables
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import RawLayout, input_size, row_bytes, row_ranges
from edge_isp.kernels.pack import pack
from edge_isp.kernels.resample import encode_resampled
from edge_isp.kernels.shaded import encode_shaded
from edge_isp.kernels.statistics import statistics
from edge_isp.kernels.tables import Factors, encoding_table, lens_factors, node_places, step_table
from edge_isp.kernels.unpack import unpack
from edge_isp.kernels.warmup import compile_kernels

SCHEMA_VERSION = 1
SIZES = ((1920, 1080), (4056, 3040))

_BLACK, _GAINS = 0.0625, (1.8, 1.0, 1.5)  # black level as a share of the code range, white balance
# NumPy takes long and needs fewer repetitions.
_SLOW_REPETITIONS = 5


@dataclass(frozen=True, slots=True)
class KernelResult:
    """Speed of one kernel at one size.

    Attributes:
        kernel: its name.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        repetitions: the number of times that it ran.
        min_ms: the shortest time.
        median_ms: the median of the times.
        gigabytes_per_second: bytes read and written over the shortest time.
        times_copy: its time divided by that of a copy of as many bytes.
        faster_than_numpy: NumPy's time divided by its time; None where there is no such comparison.
        faster_than_opencv: OpenCV's time divided by its time; None where there is no such comparison.
        target: what is required of it; None where nothing is.
        target_met: whether that is met.
    """

    kernel: str
    width: int
    height: int
    repetitions: int
    min_ms: float
    median_ms: float
    gigabytes_per_second: float
    times_copy: float
    faster_than_numpy: float | None
    faster_than_opencv: float | None
    target: str | None
    target_met: bool | None


@dataclass(frozen=True, slots=True)
class KernelReport:
    """All results, and the machine that they were measured on.

    Attributes:
        schema_version: of the document.
        kind: "kernels".
        processor: the architecture and the model of the processor.
        python: its version.
        numpy: its version.
        numba: its version.
        opencv: its version; None where it is not installed.
        two_threads_speed_up: the speed of two threads that share the rows of a frame, divided by that of one.
        results: one for each kernel and size.
    """

    schema_version: int
    kind: str
    processor: str
    python: str
    numpy: str
    numba: str
    opencv: str | None
    two_threads_speed_up: float
    results: list[KernelResult]


@dataclass(frozen=True, slots=True)
class _Case:
    kernel: str
    run: Callable[[], object]
    moved: int  # bytes read and written
    numpy: Callable[[], object] | None = None
    opencv: Callable[[], object] | None = None
    target: str | None = None
    meets: Callable[[KernelResult, dict[str, float]], bool] | None = None


def measure_kernels(seconds: float = 1.0) -> KernelReport:
    """Times every kernel at every size.

    Args:
        seconds: the least time for each kernel together with its comparisons.
    """
    compile_kernels()
    cv2 = _opencv()
    results = [result for width, height in SIZES for result in _measure_size(width, height, seconds, cv2)]
    return KernelReport(
        schema_version=SCHEMA_VERSION,
        kind="kernels",
        processor=f"{platform.machine()} {_processor()}",
        python=platform.python_version(),
        numpy=np.__version__,
        numba=numba.__version__,
        opencv=cv2.__version__ if cv2 else None,
        two_threads_speed_up=_two_threads_speed_up(seconds),
        results=results,
    )


def _measure_size(width: int, height: int, seconds: float, cv2: Any) -> list[KernelResult]:
    threads = cv2.getNumThreads() if cv2 else 0
    if cv2:
        cv2.setNumThreads(1)
    try:
        results: list[KernelResult] = []
        shortest: dict[str, float] = {}
        for case in _cases(width, height, cv2):
            result = _measure(case, width, height, seconds, shortest)
            shortest[case.kernel] = result.min_ms
            results.append(result)
        return results
    finally:
        if cv2:
            cv2.setNumThreads(threads)


def _measure(case: _Case, width: int, height: int, seconds: float, shortest: dict[str, float]) -> KernelResult:
    source, target = (np.ones(case.moved // 2, np.uint8) for _ in range(2))
    runs: dict[str, Callable[[], object]] = {"kernel": case.run, "copy": partial(np.copyto, target, source)}
    runs |= {name: run for name, run in (("numpy", case.numpy), ("opencv", case.opencv)) if run}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times["kernel"]) < _SLOW_REPETITIONS:
        for name, run in runs.items():
            if name == "numpy" and len(times[name]) >= _SLOW_REPETITIONS:
                continue
            begun = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begun)
    kernel = min(times["kernel"])
    bare = KernelResult(
        kernel=case.kernel,
        width=width,
        height=height,
        repetitions=len(times["kernel"]),
        min_ms=kernel * 1e3,
        median_ms=stdlib_statistics.median(times["kernel"]) * 1e3,
        gigabytes_per_second=case.moved / kernel / 1e9,
        times_copy=kernel / min(times["copy"]),
        faster_than_numpy=min(times["numpy"]) / kernel if case.numpy else None,
        faster_than_opencv=min(times["opencv"]) / kernel if case.opencv else None,
        target=case.target,
        target_met=None,
    )
    if case.meets is None:
        return bare
    return replace(bare, target_met=case.meets(bare, shortest))


def _cases(width: int, height: int, cv2: Any) -> list[_Case]:
    rng = np.random.default_rng(0)
    frames = {
        layout: rng.integers(0, 256, (height, row_bytes(*layout, width)), dtype=np.uint8)
        for layout in (("csi2p", 10), ("csi2p", 12), ("csi2p", 14), ("u16-left", 12), ("pisp-comp1", 16), ("u8", 8))
    }
    cases = [
        *(_unpack_case(frames[layout], layout, width, height) for layout in frames),
        *(_encode_case(frames[layout], layout, width, height) for layout in frames),
        *_input_cases(frames["csi2p", 10], width, height),
        *_cell_and_defect_cases(rng, width, height),
        *_picture_cases(rng, width, height, cv2),
        _detector_case(rng),
    ]
    codes = rng.integers(0, 1024, (height, width)).astype(np.uint16)
    return cases + _demosaic_cases(codes, width, height, cv2)


def _unpack_case(data: NDArray[np.uint8], layout: tuple[str, int], width: int, height: int) -> _Case:
    raw = RawLayout(width, height, *layout, "RGGB")
    out = np.empty((height, width), np.uint16)
    compressed = layout[0] == "pisp-comp1"
    return _Case(
        f"{'decompress' if compressed else 'unpack'} {_name(layout)}",
        partial(unpack, data, raw, out=out),
        data.size + out.nbytes,
        numpy=partial(reference.unpack, data, raw),
        target="15 x NumPy" if compressed else "4 copies",
        meets=lambda result, _: (result.faster_than_numpy or 0) >= 15 if compressed else result.times_copy <= 4,
    )


def _encode_case(data: NDArray[np.uint8], layout: tuple[str, int], width: int, height: int) -> _Case:
    raw = RawLayout(width, height, *layout, "RGGB")
    out = np.empty((height // 2, width // 2, 4), np.int8)
    tables = _tables(layout[1])
    raw10 = layout == ("csi2p", 10)
    return _Case(
        f"encode {_name(layout)} to int8",
        partial(encode, data, out, raw, tables=tables),
        data.size + out.nbytes,
        numpy=partial(_encode_with_numpy, data, raw),
        target="30 x NumPy, 10 copies" if raw10 else None,
        meets=(lambda result, _: (result.faster_than_numpy or 0) >= 30 and result.times_copy <= 10) if raw10 else None,
    )


def _input_cases(data: NDArray[np.uint8], width: int, height: int) -> list[_Case]:
    """RAW10 to the network's input in all its forms."""
    raw = RawLayout(width, height, "csi2p", 10, "RGGB")
    mirrored, shaded = (np.empty((height // 2, width // 2, 4), np.int8) for _ in range(2))
    noisy, shaded_noisy = (np.empty((height // 2, width // 2, 8), np.int8) for _ in range(2))
    floating = np.empty((height // 2, width // 2, 4), np.float32)
    small = np.empty((208, 208, 4), np.int8)  # a mosaic of 416, as detectors take it
    large = np.empty((416, 416, 4), np.int8)
    tables = _tables(10)
    correct = partial(encode_shaded, data, layout=raw, tables=_steps(), factors=_lens(width, height), zero_point=-128)
    noise = np.arange(4, dtype=np.int8)
    plain, with_noise = "encode RAW10 to int8", "encode RAW10 with noise planes"
    return [
        _Case(
            "encode RAW10, mirrored twice",
            partial(encode, data, mirrored, raw, tables=tables, flip_vertical=True, flip_horizontal=True),
            data.size + mirrored.nbytes,
        ),
        _Case(
            "encode RAW10, lens shading",
            partial(correct, out=shaded),
            data.size + shaded.nbytes,
            target="1.8 x plain encode",
            meets=lambda result, shortest: result.min_ms <= 1.8 * shortest[plain],
        ),
        _Case(
            with_noise,
            partial(encode, data, noisy, raw, tables=tables, constants=noise),
            data.size + noisy.nbytes,
        ),
        _Case(
            f"{with_noise}, lens shading",
            partial(correct, out=shaded_noisy, constants=(256 * noise.astype(np.uint16))),
            data.size + shaded_noisy.nbytes,
            target="1.8 x the same without",
            meets=lambda result, shortest: result.min_ms <= 1.8 * shortest[with_noise],
        ),
        _Case(
            "encode RAW10 to float32",
            partial(encode, data, floating, raw, tables=tables.astype(np.float32)),
            data.size + floating.nbytes,
        ),
        _Case(
            "encode RAW10 to a mosaic of 416",
            partial(encode_resampled, data, small, raw, tables=tables),
            data.size + small.nbytes,
            target="1.5 x plain encode",
            meets=lambda result, shortest: result.min_ms <= 1.5 * shortest[plain],
        ),
        _Case(
            "encode RAW10 to a mosaic of 832",
            partial(encode_resampled, data, large, raw, tables=tables),
            data.size + large.nbytes,
        ),
        _Case(
            "statistics RAW10, 1 row in 8",
            partial(statistics, data, raw, black_level=(64,) * 4, white_level=1023),
            data.size // 8,
        ),
    ]


def _cell_and_defect_cases(rng: np.random.Generator, width: int, height: int) -> list[_Case]:
    """RAW10 with noise planes on cells of 2x2 and 4x4 pixels, with and without lens shading and defect correction.

    The codes are those of a noisy slope with one pixel in 10 000 stuck: random ones would nearly all be candidates.
    """
    raw = RawLayout(width, height, "csi2p", 10, "RGGB")
    shot, black = 2e-4, _BLACK * raw.highest
    light = np.broadcast_to(np.linspace(0.02, 0.5, width, dtype=np.float32), (height, width))
    light = light + np.sqrt(shot * light) * rng.standard_normal(light.shape, np.float32)
    light = np.where(rng.random(light.shape, np.float32) < 1e-4, np.float32(1), light)
    codes = np.rint(black + light * (raw.highest - black)).clip(0, raw.highest).astype(np.uint16)
    data = pack(codes, packing="csi2p", bit_depth=10)
    noise = np.arange(4, dtype=np.int8)
    plain = partial(encode, tables=_tables(10), constants=noise)
    shaded = partial(
        encode_shaded,
        tables=_steps(),
        factors=_lens(width, height),
        zero_point=-128,
        constants=256 * noise.astype(np.uint16),
    )
    plan = plan_defects(
        raw,
        black_level=(black, black, black, black),
        white_level=raw.highest,
        gains=_GAINS,
        shot_noise=shot,
        read_variance=1e-6,
    )
    cases = []
    for cell in (2, 4):
        size = input_size(width, height, cell=cell, multiple=1)
        for run, lens in ((plain, ""), (shaded, ", lens shading")):
            for defects, corrected in ((None, ""), (plan, ", defects")):
                if cell == 2 and defects is None:  # see `_input_cases`
                    continue
                out = np.empty((*size, cell * cell + 4), np.int8)
                cases.append(
                    _Case(
                        f"encode RAW10 with noise planes{', 4x4 cells' if cell == 4 else ''}{lens}{corrected}",
                        partial(run, data, out, raw, cell=cell, defects=defects),
                        data.size + out.nbytes,
                    )
                )
    return cases


def _lens(width: int, height: int) -> Factors:
    """Factors that grow from the middle outwards."""
    across = np.hypot(*np.meshgrid(*(node_places(side // 2) / (side // 4) - 1 for side in (width, height))))
    return lens_factors(np.repeat(1 + across[..., None], 4, 2), "sqrt")


def _picture_cases(rng: np.random.Generator, width: int, height: int, cv2: Any) -> list[_Case]:
    """The network's output to pictures."""
    planes = rng.integers(-128, 128, (height // 2, width // 2, 12)).astype(np.int8)
    rgb = np.empty((height, width, 3), np.uint8)
    i420, yuyv = np.empty((height // 2 * 3, width), np.uint8), np.empty((height, 2 * width), np.uint8)
    opencv_yuyv = None
    if hasattr(cv2, "COLOR_RGB2YUV_YUYV"):  # since OpenCV 4.9
        opencv_yuyv = partial(cv2.cvtColor, rgb, cv2.COLOR_RGB2YUV_YUYV, yuyv.reshape(height, width, 2).copy())
    plain, scaled = output_table(1 / 255, -128), output_table(1 / 250, -120)
    return [
        _Case(
            "decode int8 to RGB8",
            partial(decode_rgb, planes, rgb, plain),
            planes.size + rgb.size,
            numpy=partial(reference.decode_rgb, planes, plain),
        ),
        _Case("decode int8 to RGB8, other scale", partial(decode_rgb, planes, rgb, scaled), planes.size + rgb.size),
        _Case("decode int8 to BGR8", partial(decode_rgb, planes, rgb, plain, bgr=True), planes.size + rgb.size),
        _Case(
            "RGB8 to I420",
            partial(rgb_to_i420, rgb, i420),
            rgb.size + i420.size,
            opencv=partial(cv2.cvtColor, rgb, cv2.COLOR_RGB2YUV_I420, i420.copy()) if cv2 else None,
            target="OpenCV",
            meets=_as_fast_as_opencv if cv2 else None,
        ),
        _Case(
            "RGB8 to YUYV",
            partial(rgb_to_yuyv, rgb, yuyv),
            rgb.size + yuyv.size,
            opencv=opencv_yuyv,
            target="OpenCV",
            meets=_as_fast_as_opencv if opencv_yuyv else None,
        ),
    ]


def _as_fast_as_opencv(result: KernelResult, _: dict[str, float]) -> bool:
    return (result.faster_than_opencv or 0) >= 1


def _detector_case(rng: np.random.Generator) -> _Case:
    """A detector's output for a mosaic of 640, where every cell is a candidate: more than any scene has."""
    box, objectness, classes = (0.02, 0), (0.06, 0), (0.08, 60)
    strides = (8, 16, 32)
    outputs = []
    for stride in strides:
        size = (640 // stride, 640 // stride)
        box_logits = rng.integers(-60, 60, (*size, 4)).astype(np.int8)
        class_logits = rng.integers(-128, 128, (*size, 80)).astype(np.int8)
        outputs.append((box_logits, rng.integers(0, 128, (*size, 1)).astype(np.int8), class_logits))
    levels = [level_tables(s, box=box, objectness=objectness, classes=classes, confidence=0.01) for s in strides]
    limits: dict[str, Any] = {"iou_threshold": 0.45, "max_detections": 100}
    levels_of = [(stride, box, objectness, classes) for stride in strides]
    return _Case(
        "detect, 8400 candidates of 80 classes",
        partial(detect, outputs, levels, **limits),
        sum(logits.size for level in outputs for logits in level),
        numpy=partial(reference.detect, outputs, levels_of, confidence=0.01, **limits),
    )


def _demosaic_cases(codes: NDArray[np.uint16], width: int, height: int, cv2: Any) -> list[_Case]:
    """From unpacked codes, as OpenCV takes them."""
    data = codes.view(np.uint8)
    raw = RawLayout(width, height, "u16", 10, "RGGB")
    rgb, opencv_rgb = (np.empty((height, width, 3), np.uint16) for _ in range(2))
    picture = np.empty((height, width, 3), np.uint8)
    linear = encoding_table(
        bit_depth=10,
        black_level=(64.0,) * 4,
        white_level=1023,
        gains=_GAINS,
        curve="linear",
        scale=1 / LINEAR_WHITE,
        zero_point=0,
        dtype=np.uint16,
    )
    tone = np.rint(255 * srgb_encode(np.linspace(0, 1, TONE_ENTRIES))).astype(np.uint8)
    matrix = np.array([[1.6, -0.4, -0.2], [-0.3, 1.6, -0.3], [0.0, -0.6, 1.6]])
    edge_aware = partial(cv2.cvtColor, codes, cv2.COLOR_BayerRGGB2RGB_EA, opencv_rgb) if cv2 else None
    bilinear = partial(cv2.cvtColor, codes, cv2.COLOR_BayerRGGB2RGB, opencv_rgb) if cv2 else None
    moved = data.size + rgb.nbytes
    return [
        _Case(
            "demosaic Malvar (OpenCV: edge-aware)",
            partial(demosaic, data, rgb, raw),
            moved,
            opencv=edge_aware,
            target="OpenCV",
            meets=_as_fast_as_opencv if cv2 else None,
        ),
        _Case("demosaic bilinear", partial(demosaic, data, rgb, raw, method="bilinear"), moved, opencv=bilinear),
        _Case(
            "develop Malvar to RGB8",
            partial(develop, data, picture, raw, tables=linear, matrix=matrix, tone=tone),
            data.size + picture.size,
        ),
    ]


def _two_threads_speed_up(seconds: float) -> float:
    """How many times as fast two threads, each with half of the rows, encode 4056x3040 of RAW10."""
    width, height = SIZES[1]
    raw = RawLayout(width, height, "csi2p", 10, "RGGB")
    data = np.random.default_rng(0).integers(0, 256, (height, row_bytes("csi2p", 10, width)), dtype=np.uint8)
    out = np.empty((height // 2, width // 2, 4), np.int8)
    tables = _tables(10)

    def part(rows: tuple[int, int]) -> None:
        encode(data, out, raw, tables=tables, rows=rows)

    times: dict[int, list[float]] = {1: [], 2: []}
    with ThreadPoolExecutor(2) as pool:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(times[2]) < _SLOW_REPETITIONS:
            for threads in times:
                begun = time.perf_counter()
                list(pool.map(part, row_ranges(height // 2, threads)))
                times[threads].append(time.perf_counter() - begun)
    return min(times[1]) / min(times[2])


def _encode_with_numpy(data: NDArray[np.uint8], raw: RawLayout) -> NDArray[np.int8]:
    """What people write: unpack, subtract the black level, divide, square root, stack the planes, quantise."""
    codes = reference.unpack(data, raw).astype(np.float32)
    highest = raw.highest
    light = np.clip((codes - _BLACK * highest) / (highest - _BLACK * highest), 0, 1)
    cells = np.stack([light[::2, ::2], light[::2, 1::2], light[1::2, ::2], light[1::2, 1::2]], -1)
    cells = np.sqrt(np.clip(cells * np.array([1.8, 1, 1, 1.5], np.float32), 0, 1))
    quantised: NDArray[np.int8] = (np.rint(cells * 255) - 128).astype(np.int8)
    return quantised


def _tables(bit_depth: int) -> NDArray[np.int8]:
    return encoding_table(**_table_arguments(bit_depth))


def _steps() -> NDArray[np.uint16]:
    return step_table(**_table_arguments(10))


def _table_arguments(bit_depth: int) -> dict[str, Any]:
    highest = 2**bit_depth - 1
    return {
        "bit_depth": bit_depth,
        "black_level": (_BLACK * highest,) * 4,
        "white_level": highest,
        "gains": _GAINS,
        "curve": "sqrt",
        "scale": 1 / 255,
        "zero_point": -128,
    }


def _name(layout: tuple[str, int]) -> str:
    packing, bit_depth = layout
    names = {"csi2p": f"RAW{bit_depth}", "pisp-comp1": "PiSP", "u8": "RAW8"}
    return names.get(packing, f"{packing} {bit_depth} bit")


def _processor() -> str:
    board = Board()
    return board.processor() or board.model() or platform.processor()


def _opencv() -> Any:
    try:
        import cv2
    except ModuleNotFoundError:
        return None
    return cv2
