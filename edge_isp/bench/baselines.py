"""Other implementations on the same frames: NumPy with float32, OpenCV, rawpy, and ISPs before a detector, in turns.

Each runs in a process of its own, so that its memory can be told apart: `python -m edge_isp.bench.baselines` gets a job
as JSON and prints its figures as JSON. All get the same frames, packed as the sensor sends them, in memory. Their
results differ, and the report says what each makes.
"""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_isp.bench.figures import distribution, rate
from edge_isp.bench.frames import MemoryCamera
from edge_isp.bench.picture_baselines import (
    objects_by_isp,
    objects_by_picamera2,
    objects_by_software_isp,
    objects_through_pictures,
    software_isp,
)
from edge_isp.bench.report import Baseline
from edge_isp.bench.sampler import Meters
from edge_isp.errors import BenchError, CameraError
from edge_isp.frame import RawFrame

# Frames at the beginning that do not count.
_WARMUP = 8

_DAYLIGHT = np.array([[1.6, -0.4, -0.2], [-0.3, 1.6, -0.3], [0.0, -0.6, 1.6]], np.float32)

_GREEN = np.array([[0, 0, -2, 0, 0], [0, 0, 4, 0, 0], [-2, 4, 8, 4, -2], [0, 0, 4, 0, 0], [0, 0, -2, 0, 0]])
_ALONG = np.array([[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]])
_DIAGONAL = np.array([[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]])
_MALVAR = [np.float32(kernel / 16) for kernel in (_GREEN, _ALONG, _ALONG.T, _DIAGONAL)]

# Develops a frame into a picture, uint8 (height, width, 3).
Develop = Callable[[RawFrame], NDArray[Any]]


def numpy_float32(model: str, frame: RawFrame) -> Develop:
    """The same network in float32: NumPy unpacks and white-balances a copy of the buffer, ONNX Runtime runs the
    network, OpenCV's filters demosaic as Malvar does, and NumPy adds the residual and applies colour matrix and curve.

    Args:
        model: the name of the model.
        frame: is like those that will be developed.

    Raises:
        BenchError: the model is not a `.tflite` model of calibrated colour, or its residual is in fine and coarse
            steps.
        ModelError: there is no such model.
    """
    import cv2
    import onnxruntime

    from edge_isp.bench.float_onnx import float_onnx
    from edge_isp.calibration.light import noise_deviation, normalise_gains
    from edge_isp.calibration.profile import load_profile
    from edge_isp.kernels.reference import on_2x2, on_cells
    from edge_isp.models.card import find_model
    from edge_isp.models.tflite_graph import TfliteGraph

    card = find_model(model, frame.sensor)
    if card.colour != "calibrated" or card.path.suffix != ".tflite" or card.outputs[0].layout == "residual24":
        raise BenchError(
            "numpy_float32 needs a .tflite model of calibrated colour with one output plane for each colour of a "
            f"pixel, and {card.name} is not one"
        )
    width, height = frame.format.width, frame.format.height
    graph = TfliteGraph(card.path.read_bytes(), str(card.path))
    graph.resize(*card.input_size(width, height))
    session = onnxruntime.InferenceSession(float_onnx(graph), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    assert frame.colour_gains is not None
    red, blue = frame.colour_gains
    gains = np.array(normalise_gains(red, 1.0, blue), np.float32)
    every = gains[[0, 1, 1, 2]]
    profile = load_profile(frame.sensor or "")
    shot = profile.noise.shot if profile.noise else 0.0
    noise = np.float32(noise_deviation(shot, frame.analogue_gain or 1.0, every) * card.input.noise_factor)
    matrix = np.float32(profile.colour_matrix(frame.colour_temperature_k or 5500.0))
    black, white = np.float32(frame.black_level[0]), np.float32(frame.white_level)

    def develop(leased: RawFrame) -> NDArray[np.uint8]:
        codes = _unpack(np.array(leased.data), width, height).astype(np.float32)
        light = (codes - black) / (white - black)
        planes = np.stack([light[::2, ::2], light[::2, 1::2], light[1::2, ::2], light[1::2, 1::2]], -1)
        planes = np.sqrt(np.clip(planes * every, 0, 1))
        tensor = on_cells(
            np.concatenate([planes, np.broadcast_to(noise, planes.shape)], -1), card.cell, card.input_multiple
        )
        residual = np.asarray(session.run(None, {name: tensor[None]})[0])[0]
        if card.cell == 4:
            residual = on_2x2(residual)
        residual = residual[: height // 2, : width // 2]
        mosaic = np.empty((height, width), np.float32)
        mosaic[::2, ::2], mosaic[::2, 1::2] = planes[..., 0], planes[..., 1]
        mosaic[1::2, ::2], mosaic[1::2, 1::2] = planes[..., 2], planes[..., 3]
        base = _malvar(cv2, mosaic)
        # A residual of 1 is an eighth of white, see `kernels.residual`.
        detail = (
            residual.reshape(height // 2, width // 2, 2, 2, 3).transpose(0, 2, 1, 3, 4).reshape(height, width, 3) / 8
        )
        linear = np.clip(np.square(np.clip(base + detail, 0, 1)) @ matrix.T, 0, 1)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        picture: NDArray[np.uint8] = (encoded * 255 + 0.5).astype(np.uint8)
        return picture

    return develop


def _malvar(cv2: Any, mosaic: NDArray[np.float32]) -> NDArray[np.float32]:
    """Malvar-He-Cutler demosaicing of an RGGB mosaic: four filters over all of it, each used where it belongs."""
    green, along, across, diagonal = (cv2.filter2D(mosaic, -1, kernel) for kernel in _MALVAR)
    rgb = np.repeat(mosaic[..., None], 3, 2)
    rgb[::2, ::2, 1], rgb[::2, ::2, 2] = green[::2, ::2], diagonal[::2, ::2]
    rgb[::2, 1::2, 0], rgb[::2, 1::2, 2] = along[::2, 1::2], across[::2, 1::2]
    rgb[1::2, ::2, 0], rgb[1::2, ::2, 2] = across[1::2, ::2], along[1::2, ::2]
    rgb[1::2, 1::2, 0], rgb[1::2, 1::2, 1] = diagonal[1::2, 1::2], green[1::2, 1::2]
    return rgb


def opencv(model: str, frame: RawFrame) -> Develop:
    """No network: NumPy unpacks; OpenCV does edge-aware demosaicing, white balance, colour matrix and curve.

    Args:
        model: is not used.
        frame: is like those that will be developed.
    """
    import cv2

    width, height = frame.format.width, frame.format.height
    assert frame.colour_gains is not None
    red, blue = frame.colour_gains
    black, white = frame.black_level[0], frame.white_level
    matrix = _DAYLIGHT @ np.diag([red, 1.0, blue]).astype(np.float32)
    steps = np.arange(256) / 255
    curve = np.where(steps <= 0.0031308, 12.92 * steps, 1.055 * steps ** (1 / 2.4) - 0.055)
    table = np.rint(curve * 255).astype(np.uint8)

    def develop(leased: RawFrame) -> NDArray[np.uint8]:
        codes = cv2.subtract(_unpack(np.array(leased.data), width, height), cast("Any", black))
        rgb = cv2.cvtColor(codes, cv2.COLOR_BayerRGGB2RGB_EA)
        balanced = cv2.transform(rgb, matrix)
        picture = cv2.LUT(cv2.convertScaleAbs(balanced, alpha=255 / (white - black)), table)
        return np.asarray(picture, np.uint8)

    return develop


def rawpy_half(model: str, frame: RawFrame) -> Develop:
    """No network: LibRaw develops a DNG of the frame, which lies ready in memory, to half its width and height.

    Args:
        model: is not used.
        frame: is the one that will be developed again and again.
    """
    import rawpy
    import tifffile

    codes = _unpack(frame.data, frame.format.width, frame.format.height)
    assert frame.colour_gains is not None
    red, blue = frame.colour_gains
    neutral = (round(10000 / red), 10000, 10000, 10000, round(10000 / blue), 10000)
    tags: list[tuple[int, int, int, Any, bool]] = [
        (33421, 3, 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, 1, 4, bytes([0, 1, 1, 2]), True),  # CFAPattern: RGGB
        (50706, 1, 4, bytes([1, 4, 0, 0]), True),  # DNGVersion
        (50708, 2, 0, "edge_isp bench", True),  # UniqueCameraModel
        (50714, 4, 1, int(frame.black_level[0]), True),  # BlackLevel
        (50717, 4, 1, int(frame.white_level), True),  # WhiteLevel
        (50721, 10, 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),  # ColorMatrix1
        (50728, 5, 3, neutral, True),  # AsShotNeutral
        (50778, 3, 1, 21, True),  # CalibrationIlluminant1: D65
    ]
    file = io.BytesIO()
    tifffile.imwrite(file, codes, photometric=32803, extratags=tags)
    content = file.getvalue()

    def develop(leased: RawFrame) -> NDArray[np.uint8]:
        with rawpy.imread(io.BytesIO(content)) as raw:
            picture: NDArray[np.uint8] = raw.postprocess(half_size=True, use_camera_wb=True, no_auto_bright=True)
        return picture

    return develop


# Prepares a baseline for a model and a camera; gives the time stamps of the frames as they are done.
Stream = Callable[[str, MemoryCamera], AbstractContextManager[Iterator[int]]]


@contextmanager
def _stream(model: str, camera: MemoryCamera) -> Iterator[Iterator[int]]:
    """Time stamps of results as our pipeline delivers them."""
    from edge_isp.pipeline import Pipeline, QueuePolicy, StreamOptions

    with Pipeline(camera, model, StreamOptions(policy=QueuePolicy.BLOCK)) as pipeline:
        yield (done.timestamp_ns for done in pipeline)


def _one_by_one(prepare: Callable[[str, RawFrame], Callable[[RawFrame], Any]]) -> Stream:
    """Frames that are read and developed one after the other."""

    @contextmanager
    def stream(model: str, camera: MemoryCamera) -> Iterator[Iterator[int]]:
        with camera:
            first = camera.read()
            assert first is not None
            develop = prepare(model, first)

            def results() -> Iterator[int]:
                while (frame := camera.read()) is not None:
                    with frame:
                        develop(frame)
                    yield frame.timestamp_ns

            yield results()

    return stream


# By name: what it makes, the modules that it needs, and what runs it. The modules are imported before memory is read
# for the first time.
_OURS = ("numpy", "numba", "ai_edge_litert.interpreter", "edge_isp.pipeline", "edge_isp.engines.litert")
_Baselines = dict[str, tuple[str, tuple[str, ...], Stream]]

BASELINES: _Baselines = {
    "edge_isp": ("picture by the network, int8", _OURS, _stream),
    "numpy_float32": (
        "picture by the same network, float32 in ONNX Runtime",
        ("numpy", "cv2", "onnxruntime", "onnx", "edge_isp.bench.float_onnx"),
        _one_by_one(numpy_float32),
    ),
    "opencv": ("picture by edge-aware demosaicing", ("numpy", "cv2"), _one_by_one(opencv)),
    "software_isp": ("picture as by libcamera's software ISP", ("numpy", "cv2"), _one_by_one(software_isp)),
    "rawpy": ("picture of half the size by LibRaw", ("numpy", "rawpy", "tifffile"), _one_by_one(rawpy_half)),
}

DETECTOR_BASELINES: _Baselines = {
    "edge_isp": ("boxes from RAW", _OURS, _stream),
    "through_picture": ("boxes in pictures by the network", (*_OURS, "cv2"), objects_through_pictures),
    "software_isp": (
        "boxes in pictures as by libcamera's software ISP",
        (*_OURS, "cv2"),
        _one_by_one(objects_by_software_isp),
    ),
    "isp_path": ("boxes in pictures that cost nothing", (*_OURS, "cv2"), _one_by_one(objects_by_isp)),
    "picamera2": (
        "boxes in the main stream of a camera, at its pace",
        (*_OURS, "cv2", "picamera2"),
        _one_by_one(objects_by_picamera2),
    ),
}


def measure_baselines(model: str, *, width: int, height: int, rounds: int = 3, seconds: float = 5.0) -> list[Baseline]:
    """Runs all baselines of the model's task in turns.

    Args:
        model: the name of the model.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        rounds: the number of turns.
        seconds: the length of each turn.

    Raises:
        BenchError: one failed, and not for want of a package or a camera.
        ModelError: there is no such model.
    """
    from edge_isp.models.card import find_model

    task = find_model(model, None).task
    baselines = _baselines_of(task)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in baselines}
    skipped: dict[str, str] = {}
    for _ in range(rounds):
        for name in baselines:
            if name in skipped:
                continue
            job = {"task": task, "baseline": name, "model": model, "width": width, "height": height, "seconds": seconds}
            measured = _in_process(job)
            if "skipped" in measured:
                skipped[name] = measured["skipped"]
            else:
                found[name].append(measured)
    return [_medians(name, makes, found[name], skipped.get(name)) for name, (makes, _, _) in baselines.items()]


def _baselines_of(task: str) -> _Baselines:
    return DETECTOR_BASELINES if task == "detector" else BASELINES


def _in_process(job: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "edge_isp.bench.baselines", json.dumps(job)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
        raise BenchError(f"baseline '{job['baseline']}' failed: {reason}")
    measured: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return measured


def _medians(name: str, makes: str, found: list[dict[str, Any]], skipped: str | None) -> Baseline:
    def median(figure: str) -> float | None:
        return float(np.median([each[figure] for each in found])) if found else None

    above, peak = median("rss_above_imports_bytes"), median("rss_peak_bytes")
    return Baseline(
        name=name,
        makes=makes,
        rounds=len(found),
        fps=median("fps"),
        latency_p50_ns=median("latency_p50_ns"),
        latency_p95_ns=median("latency_p95_ns"),
        cpu_s_per_frame=median("cpu_s_per_frame"),
        rss_above_imports_bytes=None if above is None else round(above),
        rss_peak_bytes=None if peak is None else round(peak),
        skipped=skipped,
    )


def _run(job: dict[str, Any]) -> dict[str, Any]:
    """Measures a baseline in the process that was started for it."""
    _, modules, stream = _baselines_of(job["task"])[job["baseline"]]
    try:
        for module in modules:
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        return {"skipped": f"the package {error.name} is not installed"}
    camera = MemoryCamera(job["width"], job["height"], fps=None)
    before = Meters().rss_bytes() or 0
    _forget_peak()
    ages: list[int] = []
    times: list[int] = []
    cpu_s = 0.0
    try:
        with stream(job["model"], camera) as done:
            for timestamp_ns in done:
                now = time.monotonic_ns()
                if len(times) == _WARMUP:
                    cpu_s = time.process_time()
                times.append(now)
                ages.append(now - timestamp_ns)
                if len(times) > _WARMUP + 2 and now - times[_WARMUP] > job["seconds"] * 1e9:
                    break
            cpu_s = time.process_time() - cpu_s
    except CameraError as error:  # of a baseline that needs a camera of its own
        return {"skipped": str(error)}
    counted = len(times) - _WARMUP
    latency = distribution("e2e", ages[_WARMUP:])
    peak = _peak_bytes()
    return {
        "fps": rate(counted, times[_WARMUP], times[-1]),
        "latency_p50_ns": latency.p50,
        "latency_p95_ns": latency.p95,
        "cpu_s_per_frame": cpu_s / (counted - 1),
        "rss_above_imports_bytes": peak - before,
        "rss_peak_bytes": peak,
    }


def _forget_peak() -> None:
    """Resets the highest resident memory that the kernel remembers (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_bytes() -> int:
    """The highest resident memory since the reset."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _unpack(data: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint16]:
    """RAW10 unpacked with NumPy: four high bytes, and one with their low bits."""
    groups = data.reshape(height, width // 4, 5)
    codes: NDArray[np.uint16] = groups[..., :4].astype(np.uint16) << np.uint16(2)
    codes |= (groups[..., 4:] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    return codes.reshape(height, width)


if __name__ == "__main__":
    print(json.dumps(_run(json.loads(sys.argv[1]))))
