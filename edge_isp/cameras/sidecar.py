"""The TOML sidecar of a `.raw` recording: layout, sensor, and the circumstances of each frame.

[format]
width = 1920
height = 1080
cfa = "RGGB"                  # from pixel (0,0)
bit_depth = 10                # 16 for pisp-comp1
packing = "csi2p"             # csi2p | u16 | u16-left | u8 | pisp-comp1
stride = 2400                 # bytes; without it: no padding
offset = 0                    # bytes of the file before the first frame
frame_bytes = 2592000         # from one frame to the next; without it: stride times height
window = [680, 692, 1920, 1080]  # left, top, width, height: the part of the sensor that a frame shows, in the sensor's
                              # own pixels; without it: the whole sensor, if the size is the sensor's or half of it
flips = "none"                # of the readout: none | horizontal | vertical | both; without it: as cfa shows
[sensor]
name = "imx219"               # a profile; the keys below override it, or stand alone
black_level = [64, 64, 64, 64]  # R, Gr, Gb, B, at bit_depth
white_level = 1023
lens_shading = true           # false: the frames show none, since it was corrected or they are simulated
[frame]                       # for all frames; or [[frame]], one per frame
colour_gains = [1.75, 1.43]   # red, blue; without them: estimated along the sensor's AWB curve
colour_temperature_k = 5700
analogue_gain = 1.0           # without it: the noise is measured in the frame
digital_gain = 1.0            # factor on the light in the picture, not in the codes; below 1 it counts as 1
exposure_ns = 10_000_000
colour_matrix = [1.6, -0.4, -0.2, -0.3, 1.5, -0.2, 0, -0.5, 1.5]  # row by row, white-balanced camera colour to linear
                              # sRGB; a profile's goes before it
noise_profile = [2e-4, 1e-6]  # variance = first * light + second of linear light at this gain; goes before a profile's
baseline_exposure_ev = 0.5    # how much brighter than its codes the frame is shown, in stops
orientation = 1               # how results are turned upright, 1 to 8 as in EXIF
taken_at = 2026-11-28T10:15:00.25+01:00  # start of exposure, with its time zone where it is known
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge_isp.calibration.profile import profile_of, shipped_profiles
from edge_isp.corrections import Origins
from edge_isp.errors import FormatError
from edge_isp.frame import Cfa, Packing, RawFormat
from edge_isp.frame_check import RANGES, is_usable
from edge_isp.kernels.layout import Flips
from edge_isp.sensor_window import SensorWindow
from edge_isp.toml_file import TomlTable, describe, read_toml

_FORMAT = ("width", "height", "cfa", "bit_depth", "packing")
_OPTIONAL_FORMAT = ("stride", "offset", "frame_bytes", "window", "flips")
FLIPS = {
    "none": Flips(vertical=False, horizontal=False),
    "horizontal": Flips(vertical=False, horizontal=True),
    "vertical": Flips(vertical=True, horizontal=False),
    "both": Flips(vertical=True, horizontal=True),
}
_LEVELS = ("black_level", "white_level")
_FRAME = (
    "colour_gains",
    "colour_temperature_k",
    "analogue_gain",
    "digital_gain",
    "exposure_ns",
    "colour_matrix",
    "noise_profile",
    "baseline_exposure_ev",
    "orientation",
    "taken_at",
)


@dataclass(frozen=True, slots=True)
class FrameConditions:
    """What a file says of one frame; see `RecordedFrame`. A TOML sidecar has all but `timestamp_ns`."""

    colour_gains: tuple[float, float] | None = None
    colour_temperature_k: float | None = None
    analogue_gain: float | None = None
    digital_gain: float | None = None
    exposure_ns: int | None = None
    colour_matrix: tuple[float, ...] | None = None
    noise_profile: tuple[float, float] | None = None
    baseline_exposure_ev: float | None = None
    orientation: int | None = None
    timestamp_ns: int | None = None
    taken_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar's content.

    Attributes:
        format: size and layout of each frame.
        sensor: the sensor's name in lower case; None where it is not said.
        black_level: codes in the order R, Gr, Gb, B.
        white_level: code where the sensor clips.
        conditions: one entry for all frames, or one per frame.
        offset: bytes of the file before the first frame.
        frame_bytes: from the start of one frame to the start of the next.
        window: the part of the sensor that a frame shows; None where it is not said.
        lens_shading: whether the frames show the shading of their lens.
        origins: where the values of its frames come from.
    """

    format: RawFormat
    sensor: str | None
    black_level: tuple[float, float, float, float]
    white_level: float
    conditions: tuple[FrameConditions, ...]
    offset: int
    frame_bytes: int
    window: SensorWindow | None
    lens_shading: bool
    origins: Origins


def read_sidecar(path: Path) -> Sidecar:
    """Reads a sidecar.

    Args:
        path: of the TOML file.

    Raises:
        FormatError: it is missing or malformed, or a value is out of range.
    """
    if not path.exists():
        raise FormatError(f"{path}: no such file; a .raw recording needs a sidecar of the same name")
    document = read_toml(path, FormatError)
    document.check_keys(("format", "sensor", "frame"), required=("format",))
    layout = document.table("format")
    raw_format = _format(layout)
    sensor, black_level, white_level = _sensor(document.table("sensor"), raw_format.bit_depth)
    frames = document.values.get("frame", {})
    if frames == []:
        document.refuse("frame", "a table [frame] for all frames, or one table [[frame]] for each", frames)
    entries = document.tables("frame") if isinstance(frames, list) else (document.table("frame"),)
    return Sidecar(
        format=raw_format,
        sensor=sensor,
        black_level=black_level,
        white_level=white_level,
        conditions=tuple(_conditions(entry) for entry in entries),
        offset=layout.whole("offset", 0, lowest=0),
        frame_bytes=_frame_bytes(layout, raw_format),
        window=_window(layout, raw_format),
        lens_shading=document.table("sensor").flag("lens_shading", True),
        origins=_origins(document.table("sensor")),
    )


def _format(layout: TomlTable) -> RawFormat:
    layout.check_keys((*_FORMAT, *_OPTIONAL_FORMAT), required=_FORMAT)
    sizes = {key: layout.whole(key) for key in ("width", "height", "bit_depth")}
    cfa, packing = layout.choice("cfa", tuple(Cfa)), layout.choice("packing", tuple(Packing))
    stride = layout.whole("stride", lowest=1) if "stride" in layout else 0
    try:
        return RawFormat(cfa=Cfa(cfa), packing=Packing(packing), stride=stride, **sizes)
    except FormatError as error:
        layout.fail(f"[format] {error}")


def _frame_bytes(layout: TomlTable, raw_format: RawFormat) -> int:
    """Bytes from the start of one frame to the start of the next."""
    if "frame_bytes" not in layout:
        return raw_format.frame_bytes
    found = layout.whole("frame_bytes")
    if found < raw_format.frame_bytes:
        layout.refuse("frame_bytes", f"at least {raw_format.frame_bytes}, the bytes of {raw_format.height} rows", found)
    return found


def _window(layout: TomlTable, raw_format: RawFormat) -> SensorWindow | None:
    """The part of the sensor that a frame shows."""
    flips = FLIPS[layout.choice("flips", tuple(FLIPS))] if "flips" in layout else None
    if "window" not in layout:
        if flips is not None:
            layout.refuse("flips", "a window beside it: window = [left, top, width, height]", layout.values["flips"])
        return None
    left, top, width, height = layout.wholes("window", 4)
    if left < 0 or top < 0 or width < raw_format.width or height < raw_format.height:
        expected = f"left and top of 0 or more, and at least {raw_format.width}x{raw_format.height} pixels"
        layout.refuse("window", expected, layout.values["window"])
    return SensorWindow(left, top, width, height, flips=flips)


def _sensor(sensor: TomlTable, bit_depth: int) -> tuple[str | None, tuple[float, float, float, float], float]:
    sensor.check_keys(("name", "black_level", "white_level", "lens_shading"))
    name = sensor.text("name") if "name" in sensor else None
    black = sensor.numbers("black_level", 4) if "black_level" in sensor else None
    white = sensor.number("white_level") if "white_level" in sensor else None
    if black is None or white is None:
        profile = profile_of(name)
        if profile is None:
            sensor.fail(
                f"[sensor] must give black_level and white_level, or name a profile "
                f"({', '.join(shipped_profiles())}), found name {describe(name) if name is not None else 'none'}"
            )
        profile = profile.at_bit_depth(bit_depth)
        black = profile.black_level if black is None else black
        white = profile.white_level if white is None else white
    if not 0 < white < 2**bit_depth or not all(0 <= level < white for level in black):
        sensor.fail(
            f"sensor.black_level and sensor.white_level must be codes of {bit_depth} bits, black below white, "
            f"found {describe(black)} and {white:g}"
        )
    red, green_red, green_blue, blue = black
    return name.lower() if name else None, (red, green_red, green_blue, blue), white


def _origins(sensor: TomlTable) -> Origins:
    profile = profile_of(sensor.text("name")) if "name" in sensor else None
    levels = {} if profile is None else {k: f"profile '{profile.name}'" for k in _LEVELS if k not in sensor}
    return Origins("file", levels)


def _conditions(frame: TomlTable) -> FrameConditions:
    frame.check_keys(_FRAME)
    conditions = _read_conditions(frame)
    for name in _FRAME:
        value = getattr(conditions, name)
        if name in RANGES and value is not None and not is_usable(name, value):
            least, greatest = RANGES[name]
            frame.refuse(name, f"from {least:g} to {greatest:g}", frame.values[name])
    return conditions


def _read_conditions(frame: TomlTable) -> FrameConditions:
    gains = None
    if "colour_gains" in frame:
        red, blue = frame.numbers("colour_gains", 2)
        if red <= 0 or blue <= 0:
            frame.refuse("colour_gains", "a list of 2 positive finite numbers", frame.values["colour_gains"])
        gains = (red, blue)
    noise = None
    if "noise_profile" in frame:
        shot, read = frame.numbers("noise_profile", 2)
        noise = (shot, read)
    if "taken_at" in frame and not isinstance(frame.value("taken_at"), datetime):
        frame.refuse("taken_at", "a date and a time, such as 2026-11-28T10:15:00+01:00", frame.value("taken_at"))
    return FrameConditions(
        colour_gains=gains,
        colour_temperature_k=frame.positive("colour_temperature_k") if "colour_temperature_k" in frame else None,
        analogue_gain=frame.positive("analogue_gain") if "analogue_gain" in frame else None,
        digital_gain=frame.positive("digital_gain") if "digital_gain" in frame else None,
        exposure_ns=frame.whole("exposure_ns", lowest=1) if "exposure_ns" in frame else None,
        colour_matrix=frame.numbers("colour_matrix", 9) if "colour_matrix" in frame else None,
        noise_profile=noise,
        baseline_exposure_ev=frame.number("baseline_exposure_ev") if "baseline_exposure_ev" in frame else None,
        orientation=frame.whole("orientation") if "orientation" in frame else None,
        taken_at=frame.value("taken_at") if "taken_at" in frame else None,
    )
