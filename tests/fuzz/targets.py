"""What is fuzzed: every parser of a file or a text that comes from outside, each with good inputs to start from.

A further parser is its good inputs and one line of `targets`: `Target("zones", (ZONES,), _file("a.toml", read_zones))`.
"""

from __future__ import annotations

import io
import shutil
import struct
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import msgspec
import numpy as np
from PIL import Image

from edge_isp.bench.report import Report, read_report
from edge_isp.calibration.dng import load_dng_profile, read_dng
from edge_isp.calibration.profile import SensorProfile, parse_profile, shipped_profiles
from edge_isp.calibration.tuning import load_libcamera_tuning
from edge_isp.cameras.photo import load_photo
from edge_isp.cameras.replay import DngFile, RawFile
from edge_isp.cameras.sidecar import read_sidecar
from edge_isp.cameras.spec import open_camera
from edge_isp.cameras.v4l2.media import read_setup
from edge_isp.cameras.zenoh import decode_sample
from edge_isp.errors import FormatError
from edge_isp.models.card import read_card, shipped_models
from edge_isp.pipeline.options import QueuePolicy
from edge_isp.recording.mcap_recording import McapRecording
from edge_isp.recording.raw_message import encode_metadata
from edge_isp.recording.recorder import Recorder, RecordingOptions
from edge_isp.recording.repair import repair
from edge_isp.recording.schemas import KINDS, RAW
from edge_isp.ros.camera_info import load_camera_info
from edge_isp.sinks.spec import open_sink
from edge_isp.tracking import load_regions
from edge_isp.wall_clock import WallClock
from tests.ros.test_messages import CALIBRATION
from tests.support.dng import ASCII, write_dng
from tests.support.recorded_frames import METADATA
from tests.support.recorded_frames import frame as recorded_frame

_BETWEEN = b"\0\1\0"


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        name: for the report.
        seeds: good inputs.
        parse: takes an input; a file's parser may write it into the folder.
        text: whether inputs are text.
        share: how often it is chosen: slow parsers more rarely.
    """

    name: str
    seeds: tuple[bytes, ...]
    parse: Callable[[bytes, Path], object]
    text: bool = True
    share: float = 1.0


def targets(folder: Path) -> list[Target]:
    """Every parser.

    Args:
        folder: for files of theirs.
    """
    photo = folder / "seed.png"
    Image.fromarray(_gradient(32, 32)).save(photo)
    policies = (b"latest", b"block", b"buffered(8)")
    cards = tuple(path.read_bytes() for path in shipped_models().values())
    return [
        Target("sidecar", _sidecars(), _file("a.toml", read_sidecar)),
        Target("recording", _sidecars(), _recording, share=0.3),
        Target("card", cards, _file("a.toml", read_card), share=0.7),
        Target("profile", _profiles(), _profile, share=0.3),
        Target("tuning", (TUNING_1, TUNING_2), _file("a.json", _tuning), share=0.8),
        Target("set-up", (SETUP,), _file("a.toml", read_setup)),
        Target("zones", (ZONES,), _file("a.toml", load_regions)),
        Target("report", (_report(),), _file("a.json", read_report), share=1.5),
        Target("camera spec", CAMERAS, lambda content, folder: _camera(content, folder, photo), share=0.03),
        Target("sink spec", SINKS, _sink, share=0.03),
        Target("policy", policies, lambda content, folder: QueuePolicy.parse(_decoded(content)), share=0.5),
        Target("dng", _dngs(folder), _file("a.dng", _dng), text=False, share=0.3),
        Target("mcap", _mcaps(folder), _file("a.mcap", _mcap), text=False, share=0.3),
        Target("camera info", (CALIBRATION.encode(),), _file("a.yaml", load_camera_info)),
        Target("zenoh", _samples(), _sample, text=False),
        Target("libcamera metadata", LIBCAMERA, _libcamera, share=0.5),
        Target("broadcom header", (BROADCOM,), _file("h.raw", _broadcom), text=False, share=0.3),
        Target("photo", _photos(), _file("a.png", lambda path: load_photo(path, 2, 2)), text=False, share=0.4),
    ]


def _file(name: str, parse: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    def parse_file(content: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(content)
        return parse(path)

    return parse_file


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _use(profile: SensorProfile) -> None:
    """What a camera and a task ask of a profile."""
    profile.at_bit_depth(12)
    if profile.awb_curve:
        profile.colour_temperature_of_gains(1.8, 1.4)
    if profile.colour_matrices:
        profile.colour_matrix(5000)
    if profile.shading:
        profile.shading.gains_at(np.arange(3.0), np.arange(3.0), profile.size or (3, 3), 5000)


def _profile(content: bytes, folder: Path) -> None:
    _use(parse_profile(content, "a.toml"))


def _tuning(path: Path) -> None:
    _use(load_libcamera_tuning(path))


def _dng(path: Path) -> None:
    read_dng(path)
    _use(load_dng_profile(path))
    for frame in DngFile(path).frames():
        frame.release()


def _recording(content: bytes, folder: Path) -> None:
    (folder / "b.toml").write_bytes(content)
    with (folder / "b.raw").open("wb") as file:
        file.truncate(1 << 33)  # sparse
    for frame in RawFile(folder / "b.raw").frames():
        frame.release()
        break


def _mcap(path: Path) -> None:
    """Cut or not, repaired or not, a recording is read to its end or refused."""
    for read in (_read_recording, repair, _read_recording):
        try:
            read(path)
        except FormatError:
            if read is not _read_recording:
                raise


def _read_recording(path: Path) -> None:
    with McapRecording(path) as recording:
        recording.attachments()
        _ = recording.span_ns, recording.metadata
        for camera in recording.cameras:
            recording.last_frame(camera)
            for kind in KINDS:
                messages = recording.frames(camera) if kind is RAW else recording.json_messages(kind, camera)
                for _ in messages:
                    pass


def _libcamera(content: bytes, folder: Path) -> None:
    (folder / "l.json").write_bytes(content)
    with (folder / "l.raw").open("wb") as file:
        file.truncate(1 << 33)  # sparse
    for frame in RawFile(folder / "l.raw").frames():
        frame.release()
        break


def _broadcom(path: Path) -> None:
    for frame in RawFile(path).frames():
        frame.release()
        break


def _sample(content: bytes, folder: Path) -> None:
    """A message and its attachment, with a mark between them."""
    payload, _, clocks = content.rpartition(_BETWEEN)
    decode_sample(payload, clocks, "fuzz", "here", WallClock())


def _samples() -> tuple[bytes, ...]:
    frame = recorded_frame(0, size=(8, 4))
    message = encode_metadata(frame, frame.data.nbytes) + frame.data.tobytes()
    clocks = b'{"boot": "%s", "offset_ns": 1764324900000000000, "published_ns": 1764324900000000123}'
    return tuple(message + _BETWEEN + clocks % boot for boot in (b"here", b"there"))


def _camera(content: bytes, folder: Path, photo: Path) -> None:
    text = _decoded(content).replace("PHOTO", str(photo))
    open_camera(text).close()


def _sink(content: bytes, folder: Path) -> None:
    # Only folders within the one of the fuzzer are made.
    text = _decoded(content).replace("/", "_").replace("FOLDER", str(folder / "sinks"))
    if ":" in text and not text.partition(":")[2].startswith(str(folder)):
        text = f"{text.partition(':')[0]}:{folder}/sinks/{text.partition(':')[2].replace('..', '__')[:60]}"
    try:
        open_sink(text).close()
    finally:
        shutil.rmtree(folder / "sinks", ignore_errors=True)


def _sidecars() -> tuple[bytes, ...]:
    return (
        b'[format]\nwidth = 64\nheight = 48\ncfa = "RGGB"\nbit_depth = 10\npacking = "csi2p"\nstride = 96\noffset = 0\n'
        b'frame_bytes = 8192\n[sensor]\nname = "imx219"\n[frame]\ncolour_gains = [1.75, 1.43]\n'
        b"colour_temperature_k = 5700\nanalogue_gain = 1.0\nexposure_ns = 10_000_000\n"
        b"colour_matrix = [1.6, -0.4, -0.2, -0.3, 1.5, -0.2, 0, -0.5, 1.5]\nnoise_profile = [2e-4, 1e-6]\n"
        b"baseline_exposure_ev = 0.5\norientation = 6\ntaken_at = 2026-11-28T10:15:00.25+01:00\n",
        b'[format]\nwidth = 64\nheight = 48\ncfa = "BGGR"\nbit_depth = 12\npacking = "u16"\n[sensor]\n'
        b"black_level = [64, 64.5, 64, 64]\nwhite_level = 4095\n[[frame]]\n[[frame]]\nanalogue_gain = 2\n",
    )


def _profiles() -> tuple[bytes, ...]:
    from importlib import resources

    folder = resources.files("edge_isp.calibration") / "profiles"
    shipped = (folder / f"{min(shipped_profiles())}.toml").read_bytes()
    small = (
        b'[sensor]\nname = "x"\nbit_depth = 10\nbit_depths = [8, 10]\ncfa = "GRBG"\ncfa_follows_flips = false\n'
        b"black_level = [64, 64, 64, 64]\nblack_level_drift = [0.1, 0, 0, 0]\nwhite_level = 1023\n[noise]\n"
        b"shot = 1e-4\n"
        b"read_pre_gain = 1e-7\npixel_response = 0.01\n[awb]\n"
        b"curve = [[2500, 0.9, 0.3], [4000, 0.6, 0.5], [7600, 0.4, 0.7]]\n"
        b"[[colour_matrix]]\ncolour_temperature_k = 3900\nmatrix = [1.6, -0.2, -0.4, -0.5, 1.7, -0.2, 0.1, -0.9, 1.8]\n"
        b"[tone]\ncurve = [[0, 0], [1024, 5040], [65535, 65535]]\n[defects]\npixels = [[1, 2, 0, 0]]\n"
        b"[shading]\nrows = 2\ncolumns = 2\nluminance_strength = 1\nluminance = [[1, 2], [3, 1]]\n[[shading.colour]]\n"
        b"colour_temperature_k = 4000\nred = [[1, 1], [1, 1]]\nblue = [[1, 1], [1, 1]]\n"
        b'[provenance.noise]\nsource = "measured"\ndate = "2026-01-01"\n'
    )
    return (small, small, small, small, shipped)


TUNING_1 = (
    b'{"rpi.black_level": {"black_level": 4096, "black_level_r": 4096}, "rpi.noise": {"reference_constant": 16, '
    b'"reference_slope": 3.67}, "rpi.awb": {"ct_curve": [2498, 0.93, 0.36, 8600, 0.3, 0.9]}, "rpi.ccm": {"ccms": '
    b'[{"ct": 2860, "ccm": [2.1, -0.4, -0.7, -0.4, 1.8, -0.4, 0.0, -1.0, 2.0]}]}, "rpi.contrast": {"gamma_curve": '
    b"[0, 0, 1024, 5040, 65535, 65535]}}"
)
TUNING_2 = (
    b'{"version": 2.0, "target": "bcm2835", # a comment\n "algorithms": ['
    + b", ".join(
        (
            b'{"rpi.black_level": {"black_level": 4096}}',
            b'{"rpi.awb": {"ct_curve": [2498.0, 0.93, 0.36, 8600.0, 0.3, 0.9]}}',
            b'{"rpi.alsc": {"luminance_lut": [%s], "luminance_strength": 0.8, '
            b'"calibrations_Cr": [{"ct": 3000, "table": [%s]}],'
            b' "calibrations_Cb": [{"ct": 3000, "table": [%s]}]}}' % ((b", ".join([b"1.5"] * 192),) * 3),
            b'{"rpi.ccm": {"ccms": [{"ct": 2860, "ccm": [2.1, -0.4, -0.7, -0.4, 1.8, -0.4, 0.0, -1.0, 2.0]}]}},',
        )
    )
    + b"]}"
)
ZONES = b"""
[[zone]]
name = "door"
polygon = [[0.1, 0.2], [0.4, 0.2], [0.4, 0.9]]
classes = ["person"]
[[line]]
name = "entrance"
start = [0.5, 0.0]
end = [0.5, 1.0]
"""
SETUP = (
    b'media = "fe801000.csi"\nvideo = "unicam-image"\nsensor = "imx219"\n[[link]]\nsource = ["imx219 10-0010", 0]\n'
    b'sink = ["unicam", 0]\nenabled = true\n[[format]]\nentity = "imx219 10-0010"\npad = 0\ncode = "SRGGB10_1X10"\n'
    b"width = 1920\nheight = 1080\n[controls]\nexposure = 1000\n"
)
CAMERAS = (
    b"synthetic:PHOTO,fps=30,width=16,height=16",
    b"synthetic:PHOTO,fps=none,width=16,height=16,sensor=imx219,seed=3,colour_temperature_k=4000,imperfections=no",
    b"synthetic:PHOTO,width=16,height=16,frames=2,analogue_gain=2",
    b"replay:PHOTO",
    b"PHOTO",
    b"scene.raw",
    b"/nowhere/scene.dng",
)
SINKS = (b"png:FOLDER", b"jpeg:FOLDER,quality=90", b"jpeg:a,quality=90", b"png:b")


LIBCAMERA = (
    b'{"raw": {"format": "SRGGB10_CSI2P", "size": [64, 48], "stride": 96, "framesize": 8192}, "sensor": "imx219", '
    b'"bit_depth": 10, "metadata": {"ExposureTime": 10000, "AnalogueGain": 1.5, "DigitalGain": 1.0, "ColourGains": '
    b'[1.5, 1.75], "ColourTemperature": 4500, "SensorTimestamp": 5000000000, "SensorBlackLevels": [4096, 4096, 4096, '
    b'4096], "ColourCorrectionMatrix": [1.9, -0.6, -0.3, -0.4, 1.8, -0.4, -0.1, -0.7, 1.8]}}',
    b'[{"ExposureTime": 10000}, {"AnalogueGain": 1.5}]',
)
BROADCOM = (b"BRCMo".ljust(0xB0, b"\0") + struct.pack("<32sHHHH24xHHBB", b"imx219", 64, 48, 0, 0, 0, 33, 0, 3)).ljust(
    0x8000, b"\0"
) + bytes(96 * 48)


def _mcaps(folder: Path) -> tuple[bytes, ...]:
    """A whole recording, a compressed one, and one that was cut off."""
    made = []
    for name, options in (("a", RecordingOptions()), ("b", RecordingOptions(compress=True))):
        recorder = Recorder(folder / f"{name}.mcap", options, attachments={"a.json": b"{}"}, metadata={"model": "m"})
        for number in range(len(METADATA)):
            recorder.frame(recorded_frame(number, size=(8, 4)))
        recorder.trigger("now")
        recorder.close()
        made.append((folder / f"{name}.mcap").read_bytes())
        (folder / f"{name}.mcap").unlink()
    return (*made, made[0][: len(made[0]) * 2 // 3])


def _dngs(folder: Path) -> tuple[bytes, ...]:
    codes = (np.arange(24 * 32, dtype=np.uint16) % 1000 + 64).reshape(24, 32)
    times = {
        "DateTimeOriginal": (ASCII, "2026:11:28 10:15:00"),
        "OffsetTimeOriginal": (ASCII, "+02:00"),
        "SubsecTimeOriginal": (ASCII, "25"),
    }
    return (write_dng(folder / "seed.dng", codes, times).read_bytes(),)


def _gradient(width: int, height: int) -> Any:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([7 * x % 256, 5 * y % 256, (x + y) % 256], 2).astype(np.uint8)


def _photos() -> tuple[bytes, ...]:
    picture, made = Image.fromarray(_gradient(24, 16)), []
    exif = Image.Exif()
    exif[274] = 6
    for name, settings in (
        ("PNG", {}),
        ("JPEG", {"exif": exif}),
        ("WEBP", {}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("GIF", {}),
        ("BMP", {}),
    ):
        written = io.BytesIO()
        picture.save(written, name, **settings)
        made.append(written.getvalue())
    return tuple(made)


def _report() -> bytes:
    """A report with every field."""
    return msgspec.json.encode(_example(Report))


def _example(kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _example(next(part for part in arguments if part is not type(None)))
    if origin is typing.Literal:
        return arguments[0]
    if origin is list:
        return [_example(arguments[0])]
    if origin is tuple:
        return [_example(part) for part in arguments if part is not Ellipsis]
    if origin is dict:
        return {"a": _example(arguments[1])}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind)
        return {field.encode_name: _example(hints[field.name]) for field in msgspec.structs.fields(kind)}
    examples: dict[Any, Any] = {str: "a", int: 3, float: 1.5, bool: True}
    return examples[kind]
