"""`edge-isp run`: camera to pictures, or to what a detector finds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_isp.cli import options


def run(
    camera: options.Camera = None,
    model: options.Model = "rfdcsanet-s",
    frames: options.Frames = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Write each result into this folder as a PNG: the picture, with boxes if the model is a detector.",
        ),
    ] = None,
    sink: options.Sinks = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON to standard output: one object per frame, each on its own line.")
    ] = False,
    profile: options.Profile = None,
    input_size: options.InputSize = None,
    confidence: options.Confidence = None,
    lens_shading: options.LensShading = None,
    tile: options.Tile = None,
    memory_budget: options.MemoryBudget = None,
    defect_correction: options.Defects = True,
    tone: options.Tone = "camera",
    auto_brightness: options.AutoBrightness = False,
    engine: options.Engine = None,
    threads: options.Threads = None,
    delegate: options.Delegate = "auto",
    require_full_delegation: options.RequireFullDelegation = False,
    time_limit: options.TimeLimit = None,
    check_every: options.CheckEvery = 1000,
    engine_python: options.EnginePython = None,
    isolate: options.Isolate = False,
    memory_limit: options.MemoryLimit = None,
    auto_exposure: options.AutoExposure = False,
    policy: options.Policy = None,
    verbose: options.Verbose = False,
) -> None:
    """Turn RAW frames into pictures or detections, and show how long each stage takes."""
    from edge_isp.calibration.profile import load_profile
    from edge_isp.cli.run_stream import Shown, run_stream
    from edge_isp.engines.fallback import Delegation
    from edge_isp.metering.exposure import AutoExposure
    from edge_isp.pipeline import ModelOptions, QueuePolicy, StreamOptions

    run_stream(
        camera,
        ModelOptions(
            model,
            engine=engine,
            threads=threads,
            delegation=Delegation(
                delegate,
                require_full_delegation,
                check_every,
                time_limit,
                engine_python,
                isolate or memory_limit is not None,
                None if memory_limit is None else memory_limit << 20,
            ),
            profile=load_profile(profile) if profile else None,
            correct_shading=lens_shading,
            correct_defects=defect_correction,
            tone=tone,
            input_size=input_size,
            confidence=confidence,
            tile=tile,
            memory_budget_bytes=None if memory_budget is None else memory_budget * 10**6,
        ),
        StreamOptions(
            auto_exposure=AutoExposure() if auto_exposure else None,
            auto_brightness=auto_brightness,
            policy=QueuePolicy.parse(policy) if policy else None,
            notify_systemd=True,
        ),
        Shown(frames=frames, folder=save, sinks=tuple(sink or ()), as_json=as_json, verbose=verbose),
    )
