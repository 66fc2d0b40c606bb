"""Every option of the command line that more than one command has: its name, its meaning and its reading, once.

`--json` is always a flag and writes to standard output; what goes to a file is named by `--out`, `--results` or
`--plot`. A list is an option that is given several times. Help is plain text, so that brackets in it are shown.

Training and evaluation take their options from here as well, so nothing heavy is imported.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from edge_isp.errors import shortened


class Size(NamedTuple):
    """Width and height in pixels, as `--size` has them."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def parse_size(text: str | Size) -> Size:
    """The size of a text such as "1280x720".

    Raises:
        typer.BadParameter: it is not WIDTHxHEIGHT, or one of them is odd or zero: a Bayer mosaic has whole 2x2 cells.
    """
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", str(text))
    size = Size(int(match[1]), int(match[2])) if match else Size(0, 0)
    if min(size) < 2 or size.width % 2 or size.height % 2:
        raise typer.BadParameter(f"expected WIDTHxHEIGHT in pixels, both even, such as 1280x720; found '{text}'")
    return size


def parse_region(text: str) -> tuple[float, float, float, float]:
    """The rectangle of a text such as "0,0.5,1,1"; see `edge_isp.tasks.detect.check_region`.

    Args:
        text: x0, y0, x1, y1 in parts of the picture's width and height.

    Raises:
        typer.BadParameter: it is none.
    """
    from edge_isp.tasks.detect import check_region

    try:
        return check_region([float(value) for value in text.split(",")])
    except ValueError as error:
        raise typer.BadParameter(
            f"expected X0,Y0,X1,Y1 with 0 <= X0 < X1 <= 1 and 0 <= Y0 < Y1 <= 1, in parts of the picture's width and "
            f"height, such as 0,0.5,1,1; found '{shortened(text)}'",
            param_hint="--region",
        ) from error


_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_bytes(text: str | float) -> int:
    """The number of bytes of a text such as "500MB" or "2GB"; powers of ten.

    Raises:
        typer.BadParameter: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([A-Z]*)", str(text).upper())
    found = round(float(match[1]) * _BYTES.get(match[2], 0)) if match else 0
    if found < 1:
        raise typer.BadParameter(f"expected a number with B, KB, MB, GB or TB, such as 2GB; found '{text}'")
    return found


def parse_seconds(text: str | float) -> float:
    """The seconds of a text such as "10s", "500ms" or "10min".

    Raises:
        typer.BadParameter: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([a-z]*)", str(text).lower())
    found = float(match[1]) * _SECONDS.get(match[2], 0.0) if match else 0.0
    if found <= 0:
        raise typer.BadParameter(f"expected a time with ms, s, min, h or d, such as 10s; found '{text}'")
    return found


def size_option(text: str) -> typer.models.ParameterInfo:
    """`--size`, with what it is the size of."""
    option: typer.models.ParameterInfo = typer.Option("--size", metavar="WIDTHxHEIGHT", parser=parse_size, help=text)
    return option


# What is read.
Camera = Annotated[
    str | None,
    typer.Option(
        "--camera",
        metavar="SPEC",
        help="The source of frames: a recording (.raw with its .toml, .dng, or a folder of them), or "
        "NAME[:ARGUMENT][,KEY=VALUE...], such as picamera2:0,fps=30 or "
        "synthetic:photo.jpg,fps=30,width=1280,height=720. 'edge-isp devices' lists the names. Without this option "
        "the recording that comes with edge_isp is used.",
    ),
]
FrameSize = Annotated[Size, size_option("Size of the frames.")]
ExportSize = Annotated[
    Size | None, size_option("Size of the frames, or of a detector's mosaic. Without it an .onnx takes every size.")
]
Frames = Annotated[int | None, typer.Option("--frames", metavar="N", min=1, help="Stop after N frames.")]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="The sensor profile: the name of a shipped one, or the path of a .toml. By default it is the shipped one "
        "of the frames' sensor.",
    ),
]
Sensors = Annotated[
    list[str],
    typer.Option(
        "--sensor",
        metavar="NAME",
        help="A sensor to simulate: the name of a shipped profile, or the path of a .toml. May be repeated.",
    ),
]
Images = Annotated[
    Path, typer.Option("--images", metavar="DIR", exists=True, file_okay=False, help="Folder of test images.")
]
Photos = Annotated[
    Path, typer.Option("--photos", metavar="DIR", exists=True, file_okay=False, help="Folder of training photographs.")
]
Teacher = Annotated[
    Path, typer.Option("--teacher", metavar="FILE", exists=True, dir_okay=False, help="YOLOX-Nano as an ONNX file.")
]

# What runs, and on what.
Model = Annotated[
    str, typer.Option("--model", metavar="NAME", help="Name of a shipped model, or the path of a .tflite or .onnx.")
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Name of a shipped model, or the path of a .tflite or .onnx, as it runs on the board. May be repeated.",
    ),
]
Weights = Annotated[
    list[Path] | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Weights to run in PyTorch: a '-float.pt', or a '-int8.pt' of an ISP. May be repeated.",
    ),
]
Network = Annotated[
    str, typer.Option("--network", metavar="NAME", help="Name of the network's architecture, such as 'rfdcsanet-s'.")
]
InputSize = Annotated[
    int | None,
    typer.Option(
        "--input-size",
        metavar="PIXELS",
        min=1,
        help="Width and height of the mosaic that a detector sees, such as 320, 416 or 640. By default the model's.",
    ),
]
Confidence = Annotated[
    float | None,
    typer.Option("--confidence", min=0, max=1, help="Minimum confidence of a detection, 0.3 by default."),
]
Iou = Annotated[
    float | None,
    typer.Option(
        "--iou",
        min=0,
        max=1,
        help="Overlap (intersection over union) of two boxes of a class from which on the less certain one is dropped, "
        "0.45 by default.",
    ),
]
MaxDetections = Annotated[
    int | None,
    typer.Option(
        "--max-detections", metavar="N", min=1, help="Maximum number of detections in a frame, 100 by default."
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help="A class that the detector looks for, such as 'person'. May be repeated. By default all of its classes.",
    ),
]
MinSize = Annotated[
    float,
    typer.Option(
        "--min-size", metavar="PIXELS", min=0, help="Minimum width and height of a detection in pixels of the sensor."
    ),
]
DetectionRegions = Annotated[
    list[str] | None,
    typer.Option(
        "--region",
        metavar="X0,Y0,X1,Y1",
        help="A rectangle in which the middle of a detection must lie, in parts of the picture's width and height, "
        "such as 0,0.5,1,1 for the lower half. May be repeated. By default the whole picture.",
    ),
]
ClassAgnostic = Annotated[
    bool,
    typer.Option("--class-agnostic", help="Drop a box that overlaps a more certain one of another class as well."),
]
Track = Annotated[
    bool, typer.Option("--track", help="Number the detector's objects, so that each keeps its number in every frame.")
]
ZoneFile = Annotated[
    Path | None,
    typer.Option(
        "--zone",
        metavar="FILE.toml",
        dir_okay=False,
        help="Count the detector's objects in the zones and at the lines of this file; objects are tracked then.",
    ),
]
LensShading = Annotated[
    bool | None,
    typer.Option(
        "--lens-shading/--no-lens-shading",
        help="Correct the lens shading of pictures by the sensor profile, or leave it as it is. By default it is "
        "corrected where the profile has it and the part of the sensor that the frames show is known.",
    ),
]
Tile = Annotated[
    Size | None,
    typer.Option(
        "--tile",
        metavar="WIDTHxHEIGHT",
        parser=parse_size,
        help="Run frames in tiles of this size, overlap included, as an NPU needs whose model has one size. The "
        "picture is the same. By default only frames for which the engine needs too much memory are run in tiles.",
    ),
]
MemoryBudget = Annotated[
    int | None,
    typer.Option(
        "--memory-budget",
        metavar="MB",
        min=1,
        help="Memory that the engine may take for a frame before it is run in tiles. By default it is half of what is "
        "available.",
    ),
]
Defects = Annotated[
    bool,
    typer.Option(
        "--defect-correction/--no-defect-correction",
        help="Replace defective pixels of pictures, or leave them as they are.",
    ),
]
Tone = Annotated[
    str,
    typer.Option(
        "--tone",
        metavar="NAME",
        help="Tone curve of pictures: 'camera' is the camera's own, with its contrast; 'srgb' is the transfer curve of "
        "sRGB alone, for pictures that are measured.",
    ),
]
AutoBrightness = Annotated[
    bool,
    typer.Option(
        "--auto-brightness",
        help="Brighten or darken results until the mean of their light is 18 % grey, clipping no more than 1 % of any "
        "colour. For recordings whose exposure is off.",
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="Runtime of the model, see 'edge-isp devices'. By default it is LiteRT for a .tflite and ONNX Runtime "
        "for an .onnx.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        help="Threads of the runtime. By default it has one fewer than there are cores.",
    ),
]
Delegate = Annotated[
    str,
    typer.Option(
        "--delegate",
        metavar="NAME",
        help="Where the model runs. 'auto' takes the fastest that works, an NPU or the CPU; 'none' takes the CPU. Any "
        "other must work and is used however slow it is: a name that 'edge-isp doctor' lists, or the path of a "
        "delegate library. Its options follow, as in edgetpu,device=usb.",
    ),
]
RequireFullDelegation = Annotated[
    bool, typer.Option("--require-full-delegation", help="Fail if any part of the model is left on the CPU.")
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        metavar="SECONDS",
        min=0.001,
        help="Longest time of an inference on the NPU, after the first one, before its process is ended. By default it "
        "is five seconds. Frames do not wait so long: the CPU runs those for which the NPU is late.",
    ),
]
CheckEvery = Annotated[
    int,
    typer.Option(
        "--check-every",
        metavar="N",
        min=0,
        help="Compare whole frames of the NPU with the CPU every N frames, besides the checks that are always made; 0 "
        "adds none.",
    ),
]
EnginePython = Annotated[
    str | None,
    typer.Option(
        "--engine-python",
        metavar="PATH",
        help="Another Python interpreter that runs the engine, for packages that are not installed in this one.",
    ),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Run the model in a process of its own, on the CPU too. If the model crashes it, only that process ends.",
    ),
]
MemoryLimit = Annotated[
    int | None,
    typer.Option(
        "--memory-limit",
        metavar="MIB",
        min=64,
        help="With --isolate: the most private memory of that process, in MiB. By default it is half of the machine's.",
    ),
]
AutoExposure = Annotated[
    bool,
    typer.Option(
        "--auto-exposure",
        help="Set the camera's exposure, gain and white balance from its RAW frames, for cameras without an ISP.",
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="POLICY",
        help="What happens when frames arrive faster than results: 'latest' drops older frames, 'block' drops none, "
        "'buffered(N)' keeps up to N. By default it is 'latest' for live cameras and 'block' for recordings.",
    ),
]
Sinks = Annotated[
    list[str] | None,
    typer.Option(
        "--sink",
        metavar="SPEC",
        help="Write each result to a sink: NAME[:ARGUMENT][,key=value...], such as png:pictures. May be repeated.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything that is random.")]

# What is shown and written.
Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show also what is chosen and why, and what is applied to the first frame."),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE.png",
        dir_okay=False,
        help="Draw the figures into this file. This needs matplotlib: pip install 'edge-isp[bench]'.",
    ),
]
OutFolder = Annotated[
    Path, typer.Option("--out", metavar="DIR", file_okay=False, help="Folder that is written to; it is made if needed.")
]
OutProfile = Annotated[
    Path, typer.Option("--out", metavar="FILE.toml", dir_okay=False, help="The sensor profile that is written.")
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="FILE",
        dir_okay=False,
        help="JSON file of all results. Those that it already holds are not measured again.",
    ),
]
