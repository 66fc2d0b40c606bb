"""`edge-isp serve`: the live view in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_isp.cli import options


def serve(
    camera: Annotated[
        list[str] | None,
        typer.Option(
            "--camera",
            metavar="[NAME=]SPEC",
            help="The source of frames, as 'edge-isp run' takes it. May be repeated: the page then has a tile for each "
            "camera, which opens the camera's own view. The name, such as door in door=picamera2:0, is that of the "
            "tile, the address, the metrics and the folder of recordings; it is camera1, camera2 and so on where none "
            "is given. Without this option it is a simulated camera that looks at a photograph.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Name of a shipped model, or the path of a .tflite or .onnx. May be repeated: pictures are those of "
            "the first model that makes them, boxes those of the first detector. By default these are rfdcsanet-s "
            "and raw-detector.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Address to serve at. Any other than this machine's own asks every client for a token, which is "
            "printed as part of a link.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port to serve at; 0 takes a free one.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            dir_okay=False,
            help="File with the token that every client must know. Without this option a new token is made at each "
            "start where the address needs one.",
        ),
    ] = None,
    recordings: Annotated[
        Path,
        typer.Option(
            "--recordings",
            metavar="DIR",
            file_okay=False,
            help="Folder of the recordings and videos that are started in the page.",
        ),
    ] = Path("recordings"),
    before: Annotated[
        float | None,
        typer.Option(
            "--before",
            metavar="TIME",
            parser=options.parse_seconds,
            help="Keep the RAW frames of this time in memory, such as 10s: a button of the page records them, and what "
            "follows, as an event. This needs: pip install 'edge-isp[recording]'.",
        ),
    ] = None,
    after: Annotated[
        float,
        typer.Option(
            "--after",
            metavar="TIME",
            parser=options.parse_seconds,
            help="With --before: how long an event goes on after the button was pressed last.",
        ),
    ] = 5.0,
    profile: options.Profile = None,
    tone: options.Tone = "camera",
    confidence: options.Confidence = None,
    iou: options.Iou = None,
    max_detections: options.MaxDetections = None,
    classes: options.Classes = None,
    min_size: options.MinSize = 0.0,
    region: options.DetectionRegions = None,
    class_agnostic: options.ClassAgnostic = False,
    track: options.Track = False,
    zone: options.ZoneFile = None,
    engine: options.Engine = None,
    threads: options.Threads = None,
    delegate: options.Delegate = "auto",
    at_once: Annotated[
        bool,
        typer.Option(
            "--at-once",
            help="With several cameras: let the models of different cameras run at the same time, for a machine with "
            "an NPU or enough cores for each. By default all models take turns.",
        ),
    ] = False,
    auto_exposure: options.AutoExposure = False,
    verbose: options.Verbose = False,
) -> None:
    """Show the pictures, the boxes and all numbers in a browser, with the camera's controls, metrics and health."""
    from edge_isp.cli.serve_view import Served, serve_view

    serve_view(
        Served(
            cameras=tuple(camera or ()),
            models=tuple(model or ("rfdcsanet-s", "raw-detector")),
            host=host,
            port=port,
            token_file=token_file,
            recordings=recordings,
            before_s=before or 0.0,
            after_s=after,
            profile=profile,
            tone=tone,
            confidence=confidence,
            iou=iou,
            max_detections=max_detections,
            classes=tuple(classes or ()),
            min_size=min_size,
            regions=tuple(map(options.parse_region, region or ())),
            class_agnostic=class_agnostic,
            track=track,
            zone=zone,
            engine=engine,
            threads=threads,
            delegate=delegate,
            at_once=at_once,
            auto_exposure=auto_exposure,
            verbose=verbose,
        )
    )
