"""One frame in, one result out: `develop` makes a picture of it, `detect` finds objects in it.

For streams use `Pipeline`, which does the same on every frame of a camera. Engines are kept between calls, so that only
the first call for a model and a size loads one.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import SensorProfile, load_profile
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.corrections import Origins
from edge_isp.errors import FormatError, ModelError, did_you_mean, shortened
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.frame_check import RANGES, check_frame, is_usable
from edge_isp.kernels.pack import pack
from edge_isp.metering.meter import complete_frame
from edge_isp.models.card import ModelCard, find_model
from edge_isp.pipeline.options import ModelOptions
from edge_isp.pipeline.runner import Model, Runner
from edge_isp.results import Detections, Picture
from edge_isp.tasks.protocol import Task
from edge_isp.tasks.registry import task_for

_log = logging.getLogger(__name__)

Raw: TypeAlias = "NDArray[Any] | str | Path | RawFrame"
Levels: TypeAlias = "float | Sequence[float]"

# Engines that are kept, one for each model and size of its input.
_ENGINES_KEPT = 4


def develop(
    raw: Raw,
    *,
    cfa: str | None = None,
    bit_depth: int | None = None,
    black_level: Levels | None = None,
    white_level: float | None = None,
    sensor: str | None = None,
    analogue_gain: float | None = None,
    colour_gains: tuple[float, float] | None = None,
    colour_temperature_k: float | None = None,
    colour_matrix: Sequence[float] | NDArray[Any] | None = None,
    profile: SensorProfile | str | Path | None = None,
    model: str = "rfdcsanet-s",
    tone: str = "camera",
    auto_brightness: bool = False,
) -> NDArray[np.uint8]:
    """Develops one RAW frame into a picture.

    An array has to be described: at least its CFA, its bit depth, and its black level or its sensor. A file or a
    `RawFrame` describes itself; what it leaves open may be given, what it states may not.

    Args:
        raw: uint8 or uint16 (height, width), a Bayer mosaic of unpacked codes, right-aligned; or the path of a `.raw`
            file with its sidecar, whose first frame is taken, or of a `.dng`; or a `RawFrame`, which stays leased.
        cfa: colour order from pixel (0,0): "RGGB", "GRBG", "GBRG" or "BGGR".
        bit_depth: significant bits of a code, 8 to 16.
        black_level: code of black at `bit_depth`, one for all or four for R, Gr, Gb, B; by default that of `profile`
            or `sensor`.
        white_level: code at `bit_depth` where the sensor clips; by default that of `profile` or `sensor`, otherwise
            2**bit_depth - 1.
        sensor: name of a shipped sensor profile such as "imx219", which knows levels, noise and colours.
        analogue_gain: of the exposure, at least 1; it tells the model how much noise there is;
            by default that is estimated from the frame.
        colour_gains: white-balance gains of red and blue (green is 1); by default they are estimated from
            the frame.
        colour_temperature_k: of the light; by default the one that `colour_gains` belong to, otherwise daylight.
        colour_matrix: 9 numbers or 3x3, white-balanced camera colour to linear sRGB, for a sensor without a profile.
        profile: of the sensor: a profile, the name of a shipped one, or the path of a .toml.
        model: name of a shipped ISP model, or the path of one.
        tone: "camera" for the camera's own tone curve, or "srgb" for sRGB's transfer curve alone.
        auto_brightness: whether the picture is brightened or darkened until the mean of its light is 18 % grey, for
            recordings whose exposure is off.

    Returns:
        uint8 (height, width, 3), for screens of sRGB.

    Raises:
        FormatError: the array or the file is no Bayer mosaic of this kind, something is missing, or given twice.
        CameraError: the file is not there, or is no recording.
        ProfileError: there is no such profile, or no such tone.
        ModelError: there is no such model, or it is no ISP model.
        EngineError: the model cannot be run.
    """
    given = profile if profile is None or isinstance(profile, SensorProfile) else load_profile(profile)
    frame = _frame(
        raw,
        _Description(
            cfa=cfa,
            bit_depth=bit_depth,
            black_level=black_level,
            white_level=white_level,
            sensor=sensor,
            analogue_gain=analogue_gain,
            colour_gains=colour_gains,
            colour_temperature_k=colour_temperature_k,
            colour_matrix=None if colour_matrix is None else tuple(np.asarray(colour_matrix, np.float64).ravel()),
        ),
        given,
    )
    card = _card(model, "isp", frame.sensor)
    task = task_for(card, profile=given, tone=tone)
    frame = complete_frame(frame, given, auto_brightness=auto_brightness)
    return cast(Picture, _run(model, card, task, frame)).rgb


def detect(
    raw: Raw,
    *,
    cfa: str | None = None,
    bit_depth: int | None = None,
    black_level: Levels | None = None,
    white_level: float | None = None,
    sensor: str | None = None,
    colour_gains: tuple[float, float] | None = None,
    model: str = "raw-detector",
    confidence: float | None = None,
    input_size: int | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    classes: Sequence[str] = (),
    min_size: float = 0,
    regions: Sequence[tuple[float, float, float, float]] = (),
    class_agnostic: bool = False,
) -> Detections:
    """Finds objects in one RAW frame; no picture is made.

    Args:
        raw: see `develop`.
        cfa: see `develop`.
        bit_depth: see `develop`.
        black_level: see `develop`.
        white_level: see `develop`.
        sensor: see `develop`.
        colour_gains: see `develop`.
        model: name of a shipped detector, or the path of one.
        confidence: minimum confidence of a detection, 0 to 1; by default 0.3.
        input_size: width and height in pixels of the mosaic that the detector sees; by default the model's.
        iou_threshold: overlap (intersection over union) with a better box of its class from which on a box is dropped,
            0 to 1; by default 0.45.
        max_detections: maximum number of detections; by default 100.
        classes: names of the classes that the detector looks for; empty for all.
        min_size: minimum width and height of a detection, in pixels of the frame.
        regions: rectangles (x0, y0, x1, y1) in parts of the picture's width and height, in one of which the middle of a
            detection must lie; empty for the whole picture.
        class_agnostic: whether a better box of any class makes a box a duplicate, not only one of its own.

    Returns:
        Boxes in pixels of the frame, the most confident first.

    Raises:
        FormatError: see `develop`.
        CameraError: see `develop`.
        ModelError: there is no such model, it is no detector, the input size is none for it, or it does not know a
            class.
        ValueError: a threshold or a region is out of range.
        EngineError: see `develop`.
    """
    description = _Description(
        cfa=cfa,
        bit_depth=bit_depth,
        black_level=black_level,
        white_level=white_level,
        sensor=sensor,
        colour_gains=colour_gains,
    )
    frame = _frame(raw, description, None)
    card = _card(model, "detector", frame.sensor)
    task = task_for(
        card,
        input_size=input_size,
        confidence=confidence,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
        classes=classes,
        min_size=min_size,
        regions=regions,
        class_agnostic=class_agnostic,
    )
    return cast(Detections, _run(model, card, task, complete_frame(frame)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Description:
    """What a caller says of a frame; see `develop`. None is not said."""

    cfa: str | None = None
    bit_depth: int | None = None
    black_level: Levels | None = None
    white_level: float | None = None
    sensor: str | None = None
    analogue_gain: float | None = None
    colour_gains: tuple[float, float] | None = None
    colour_temperature_k: float | None = None
    colour_matrix: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.sensor is not None:
            load_profile(self.sensor)  # an unknown name is an error
            object.__setattr__(self, "sensor", self.sensor.lower())
        if self.colour_matrix is not None and len(self.colour_matrix) != 9:
            raise FormatError(f"colour_matrix must have 9 entries, found {len(self.colour_matrix)}")
        for name, length in (("colour_gains", 2), ("colour_temperature_k", 1), ("analogue_gain", 1)):
            value = getattr(self, name)
            if value is not None and not _are_positive(value, length):
                expected = "two positive numbers, red and blue" if length == 2 else "a positive number"
                raise FormatError(f"{name} must be {expected}, found {value!r}")
        for name in ("colour_gains", "colour_temperature_k", "analogue_gain", "colour_matrix"):
            value = getattr(self, name)
            if value is not None and not is_usable(name, value):
                least, greatest = RANGES[name]
                raise FormatError(f"{name} must be from {least:g} to {greatest:g}, found {value!r}")

    @property
    def of_conditions(self) -> dict[str, Any]:
        """What a file may leave open, as far as it is given."""
        names = ("sensor", "analogue_gain", "colour_gains", "colour_temperature_k", "colour_matrix")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def _are_positive(value: Any, length: int) -> bool:
    try:
        numbers = np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError):
        return False
    return numbers.size == length and bool(np.all(np.isfinite(numbers) & (numbers > 0)))


def _frame(raw: Raw, description: _Description, profile: SensorProfile | None) -> RawFrame:
    """The frame of an array, of a file, or with what is given on top of what it states."""
    if isinstance(raw, np.ndarray):
        return _frame_of_array(raw, description, profile)
    if isinstance(raw, RawFrame):
        return _completed(_checked(raw), description)
    if isinstance(raw, (str, Path)):
        return _completed(_checked(_first_frame(Path(raw))), description)
    raise FormatError(
        "raw must be a NumPy array (height, width), the path of a .raw or .dng file, or a RawFrame; "
        f"found {type(raw).__name__}"
    )


def _first_frame(path: Path) -> RawFrame:
    if path.is_dir():
        raise FormatError(f"{path}: is a folder; give one file, or use Pipeline(ReplayCamera(folder)) for all of them")
    with ReplayCamera(path) as camera:
        frame = camera.read()
    assert frame is not None  # a recording without a frame is a FormatError
    return frame


def _checked(frame: RawFrame) -> RawFrame:
    """The frame without what cannot be used of it, as in a pipeline."""
    frame, unusable = check_frame(frame)
    for each in unusable:
        if each.name in ("data", "black_level"):
            raise FormatError(f"{frame.source}: {each.reason}")
        _log.warning("%s: frame %d: %s", frame.source, frame.sequence, each.reason)
    return frame


def _completed(frame: RawFrame, description: _Description) -> RawFrame:
    """A frame that describes itself, with what it leaves open."""
    stated = {
        "cfa": frame.format.cfa.value,
        "bit_depth": frame.format.bit_depth,
        "black_level": frame.black_level,
        "white_level": frame.white_level,
        **{name: getattr(frame, name) for name in description.of_conditions},
    }
    for field in fields(description):
        given = getattr(description, field.name)
        if given is not None and stated[field.name] is not None:
            raise FormatError(
                f"{frame.source}: {field.name} is given twice: {stated[field.name]} by the file or frame and {given} "
                f"by the call; leave out {field.name}="
            )
    given = dict.fromkeys(description.of_conditions, "call")
    return replace(frame, origins=frame.origins.with_others(**given), **description.of_conditions)


def _frame_of_array(codes: NDArray[Any], description: _Description, profile: SensorProfile | None) -> RawFrame:
    _check_array(codes)
    for name, values in (("cfa", f"one of {', '.join(Cfa)}"), ("bit_depth", "8 to 16")):
        if getattr(description, name) is None:
            raise FormatError(f"an array does not say its {name}: give {name}=, {values}")
    cfa, bit_depth = _cfa(description.cfa), _bit_depth(description.bit_depth)
    if codes.dtype == np.uint8 and bit_depth > 8:
        raise FormatError(f"a uint8 array holds codes of 8 bits, not of bit_depth={bit_depth}: give a uint16 array")
    largest = int(codes.max())
    if largest >= 2**bit_depth:
        raise FormatError(
            f"codes of {bit_depth} bits are below {2**bit_depth}, found {largest}: bit_depth= is too small, or the "
            f"codes are left-aligned (shift them: raw >> {8 * codes.dtype.itemsize - bit_depth})"
        )
    black_level, white_level = _levels(description, bit_depth, profile)
    packing = Packing.U8 if codes.dtype == np.uint8 else Packing.U16
    return RawFrame(
        data=pack(codes.astype(np.uint16), packing=packing, bit_depth=bit_depth),
        format=RawFormat(codes.shape[1], codes.shape[0], cfa, bit_depth, packing),
        source="array",
        sequence=0,
        timestamp_ns=0,
        black_level=black_level,
        white_level=white_level,
        origins=_origins(description, profile),
        **description.of_conditions,
    )


def _origins(description: _Description, profile: SensorProfile | None) -> Origins:
    name = profile.name if profile is not None else description.sensor
    levels = ("black_level", "white_level") if name is not None else ()
    return Origins("call", {level: f"profile '{name}'" for level in levels if getattr(description, level) is None})


def _check_array(codes: NDArray[Any]) -> None:
    if codes.ndim != 2:
        hint = "; a mosaic has one code per pixel and no colour channels" if codes.ndim == 3 else ""
        raise FormatError(f"raw must be an array (height, width), found the shape {codes.shape}{hint}")
    if codes.dtype not in (np.uint8, np.uint16):
        raise FormatError(f"raw must be an array of uint8 or uint16, found {codes.dtype}")
    if codes.size == 0:
        raise FormatError(f"raw must not be empty, found the shape {codes.shape}")
    height, width = codes.shape
    if height % 2 or width % 2:
        raise FormatError(
            f"height and width must be even, since a Bayer mosaic has 2x2 cells; found {height} x {width}"
        )


def _cfa(name: object) -> Cfa:
    try:
        return Cfa(str(name))
    except ValueError:
        raise FormatError(
            f"cfa must be one of {', '.join(Cfa)}, found '{shortened(str(name))}'{did_you_mean(str(name).upper(), Cfa)}"
        ) from None


def _bit_depth(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 8 <= value <= 16:
        raise FormatError(f"bit_depth must be a whole number from 8 to 16, found {value!r}")
    return int(value)


def _levels(
    description: _Description, bit_depth: int, profile: SensorProfile | None
) -> tuple[tuple[float, float, float, float], float]:
    """Black levels R, Gr, Gb, B and the white level: as given, else the sensor's."""
    if profile is None and description.sensor is not None:
        profile = load_profile(description.sensor)
    if profile is not None:
        profile = profile.at_bit_depth(bit_depth)
    if description.black_level is not None:
        black = _black_level(description.black_level)
    elif profile is not None:
        black = profile.black_level
    else:
        raise FormatError(
            "an array does not say its black level, without which its colours are wrong: give sensor= or profile=, or "
            f"black_level= in codes of {bit_depth} bits (most sensors have 64 at 10 bits and 256 at 12 bits; 0 where "
            "black was subtracted)"
        )
    white: Any = description.white_level
    if white is None:
        white = profile.white_level if profile is not None else 2.0**bit_depth - 1
    if not (_are_positive(white, 1) and 0 <= min(black) <= max(black) < float(white) < 2**bit_depth):
        raise FormatError(
            f"black_level and white_level must be codes of {bit_depth} bits, black below white; found {black} and "
            f"{white!r}"
        )
    return black, float(white)


def _black_level(given: Levels) -> tuple[float, float, float, float]:
    try:
        values = np.asarray(given, np.float64).ravel()
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.size not in (1, 4) or not np.all(np.isfinite(values)):
        raise FormatError(f"black_level must be a number, or four of them for R, Gr, Gb, B; found {given!r}")
    red, green_red, green_blue, blue = np.broadcast_to(values, 4).tolist()
    return red, green_red, green_blue, blue


def _card(model: str, task: str, sensor: str | None) -> ModelCard:
    """The card of a model, which must be of a task."""
    card = find_model(model, sensor)
    if card.task != task:
        other = "detect" if card.task == "detector" else "develop"
        raise ModelError(f"'{card.name}' is of the task '{card.task}': use edge_isp.{other}(..., model={model!r})")
    return card


def _run(name: str, card: ModelCard, task: Task, frame: RawFrame) -> Picture | Detections:
    """Encode, infer, decode: what a pipeline does with a frame that has white balance and noise."""
    tensor = np.zeros(task.input_shape(frame.format), card.input.dtype)
    task.encode(frame, tensor)
    return task.decode(_engines.run(name, card, task, tensor), frame, tensor)


class _Engines:
    """The engines that were used last. One runs at a time: each has threads of its own for all cores."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._runners: OrderedDict[tuple[Path, str, tuple[int, ...]], Runner] = OrderedDict()

    def run(self, name: str, card: ModelCard, task: Task, tensor: NDArray[Any]) -> list[NDArray[Any]]:
        """One inference, on an engine that is made for the model and the size if there is none."""
        key = (card.path, card.sha256, tensor.shape)
        with self._lock:
            if key not in self._runners:
                card.verify_file()
                while len(self._runners) >= self._kept:
                    self._runners.popitem(last=False)[1].close()
                options = ModelOptions(name)
                runner = Runner(Model(options), options)
                try:
                    runner.prepare(card, task, tensor.shape, warm_up=False)
                except BaseException:
                    runner.close()
                    raise
                self._runners[key] = runner
            self._runners.move_to_end(key)
            try:
                return self._runners[key].run(tensor)
            except BaseException:
                self._runners.pop(key).close()
                raise

    def close(self) -> None:
        """Closes all engines."""
        with self._lock:
            while self._runners:
                self._runners.popitem()[1].close()


_engines = _Engines(_ENGINES_KEPT)
atexit.register(_engines.close)
