"""`edge-isp record`: cameras to MCAP files, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_isp.cli import options
from edge_isp.errors import shortened
from edge_isp.spec import parse_spec

if TYPE_CHECKING:
    from edge_isp.sinks.mcap import McapSink

_SIGNAL = "signal"
_PICTURE_SIZE = "1280x720"


def _seconds(name: str, text: str) -> typer.models.ParameterInfo:
    option: typer.models.ParameterInfo = typer.Option(name, metavar="TIME", parser=options.parse_seconds, help=text)
    return option


def _bytes(name: str, text: str) -> typer.models.ParameterInfo:
    option: typer.models.ParameterInfo = typer.Option(name, metavar="SIZE", parser=options.parse_bytes, help=text)
    return option


def _with_picture(spec: str | None) -> str:
    """A camera's specification that asks for the picture of the board's own ISP."""
    parsed = parse_spec(spec or "")
    if parsed.name != "picamera2":
        raise typer.BadParameter(
            f"--with-isp needs a camera whose board makes a picture, such as picamera2:0,main=1280x720; found "
            f"'{shortened(spec) if spec else 'the recording that comes with edge_isp'}'"
        )
    return parsed.text if "main" in parsed.settings else f"{parsed.text},main={_PICTURE_SIZE}"


def record(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE.mcap|DIR",
            help="The file to record to, or a folder for files that follow each other.",
        ),
    ],
    camera: Annotated[
        list[str] | None,
        typer.Option(
            "--camera",
            metavar="SPEC",
            help="The source of frames, see 'edge-isp run --help'. May be repeated: all cameras go into one file.",
        ),
    ] = None,
    frames: options.Frames = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Also run this detector, and record what it finds. Name of a shipped model, or the path of a .tflite "
            "or .onnx.",
        ),
    ] = None,
    compress: Annotated[
        bool, typer.Option("--compress", help="Compress with zstd: smaller files, several times the work.")
    ] = False,
    split_size: Annotated[
        int | None, _bytes("--split-size", "Begin a new file before one would be larger, such as 2GB.")
    ] = None,
    split_age: Annotated[
        float | None, _seconds("--split-age", "Begin a new file after this time, such as 10min.")
    ] = None,
    budget: Annotated[
        int | None,
        _bytes(
            "--budget",
            "Most space for all recordings in the folder, such as 50GB: the oldest are deleted, those of events never.",
        ),
    ] = None,
    memory: Annotated[
        int,
        _bytes("--memory", "Memory for frames that wait for the disk, or for a trigger."),
    ] = 256_000_000,
    before: Annotated[
        float | None,
        _seconds("--before", "Record events only, each with this time before it, such as 10s. It is kept in memory."),
    ] = None,
    after: Annotated[
        float, _seconds("--after", "With --before: how long an event goes on after its last trigger.")
    ] = 5.0,
    trigger: Annotated[
        list[str] | None,
        typer.Option(
            "--trigger",
            metavar="TRIGGER",
            help="What begins an event: 'detection:CLASS>CONFIDENCE', such as 'detection:person>0.6', or 'signal', "
            "which is SIGUSR1. May be repeated.",
        ),
    ] = None,
    preview_fps: Annotated[
        float, typer.Option("--preview-fps", metavar="RATE", min=0, help="Pictures per second for viewers; 0 for none.")
    ] = 2.0,
    with_isp: Annotated[
        bool,
        typer.Option(
            "--with-isp",
            help="Also record the picture that the board's own ISP makes of each frame, of the size that the camera's "
            "main=WIDTHxHEIGHT asks for (1280x720 without it). Cameras of picamera2 have it.",
        ),
    ] = False,
    profile: options.Profile = None,
) -> None:
    """Record every frame as the camera gives it, with its metadata, to MCAP files that other programs open.

    Frames that the disk did not take are counted, here and in the file. This needs: pip install 'edge-isp[recording]'.
    """
    from edge_isp.calibration.profile import load_profile
    from edge_isp.cli.record_stream import Recording, run_recording
    from edge_isp.models.card import find_model
    from edge_isp.pipeline import ModelOptions
    from edge_isp.sinks.mcap import DetectionTrigger, McapSink

    specs: list[str | None] = list(camera) if camera else [None]
    if with_isp:
        specs = [_with_picture(spec) for spec in specs]
    detections = [text for text in trigger or () if text != _SIGNAL]
    if len(detections) > 1:
        raise typer.BadParameter("only one --trigger may be a detection")
    if trigger and before is None:
        raise typer.BadParameter("--trigger needs --before: without it everything is recorded")
    if before is not None and not trigger:
        raise typer.BadParameter("--before needs a --trigger: nothing would ever be recorded")
    if detections and model is None:
        model = "raw-detector"
    if model is not None and len(specs) > 1:
        raise typer.BadParameter("--model takes one camera")
    metadata = {}
    if model is not None:
        card = find_model(model, None)
        metadata = {"model": card.name, "model_sha256": card.sha256}
        if detections:
            DetectionTrigger.parse(detections[0]).check(card.name, card.classes)
    sensor = None if profile is None else load_profile(profile)
    names = ["camera"] if len(specs) == 1 else [f"camera{number}" for number in range(1, len(specs) + 1)]
    sink: McapSink = McapSink(
        out,
        compress=compress,
        split_mb=None if split_size is None else split_size / 1e6,
        split_s=split_age,
        budget_mb=None if budget is None else budget / 1e6,
        memory_mb=memory / 1e6,
        before_s=before or 0.0,
        after_s=after,
        trigger=detections[0] if detections else None,
        preview_fps=preview_fps,
        profile=sensor,
        cameras=names,
        metadata=metadata,
    )
    options_of_model = None if model is None else ModelOptions(model, profile=sensor)
    by_signal = _SIGNAL in (trigger or ())
    run_recording(Recording(sink, dict(zip(names, specs, strict=True)), options_of_model, frames, by_signal))
