"""`edge-isp run`: camera to pictures, or to what a detector finds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_isp.cli import options
from edge_isp.cli.configuration import MODELS, OF_MODEL, for_task

if TYPE_CHECKING:
    from edge_isp.pipeline import ModelOptions


def run(
    context: typer.Context,
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
    iou: options.Iou = None,
    max_detections: options.MaxDetections = None,
    classes: options.Classes = None,
    min_size: options.MinSize = 0.0,
    region: options.DetectionRegions = None,
    class_agnostic: options.ClassAgnostic = False,
    track: options.Track = False,
    zone: options.ZoneFile = None,
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
    from edge_isp.cli.run_stream import FurtherModel, Shown, run_stream
    from edge_isp.metering.exposure import AutoExposure
    from edge_isp.pipeline import QueuePolicy, StreamOptions

    of_model = {name: value for name, value in context.params.items() if name in OF_MODEL}
    of_model["class"] = classes  # no name that a parameter of a function may have
    run_stream(
        camera,
        _model_options(of_model),
        StreamOptions(
            auto_exposure=AutoExposure() if auto_exposure else None,
            auto_brightness=auto_brightness,
            policy=QueuePolicy.parse(policy) if policy else None,
            notify_systemd=True,
        ),
        Shown(frames=frames, folder=save, sinks=tuple(sink or ()), as_json=as_json, verbose=verbose),
        [
            # What a further model does not say itself is as for the first, as far as it concerns its task.
            FurtherModel(
                _model_options(
                    for_task(of_model, table["model"]) | {key: table[key] for key in OF_MODEL & table.keys()}
                ),
                every=table.get("every", 1),
                sinks=tuple(table.get("sink", ())),
            )
            for table in context.meta.get(MODELS, ())
        ],
    )


def _model_options(values: Mapping[str, Any]) -> ModelOptions:
    """A model and how it is run, by the options' names."""
    from edge_isp.calibration.profile import load_profile
    from edge_isp.engines.fallback import Delegation
    from edge_isp.pipeline import ModelOptions
    from edge_isp.tracking import load_regions

    memory_limit, memory_budget = values["memory_limit"], values["memory_budget"]
    return ModelOptions(
        values["model"],
        engine=values["engine"],
        threads=values["threads"],
        delegation=Delegation(
            values["delegate"],
            values["require_full_delegation"],
            values["check_every"],
            values["time_limit"],
            values["engine_python"],
            values["isolate"] or memory_limit is not None,
            None if memory_limit is None else memory_limit << 20,
        ),
        profile=load_profile(values["profile"]) if values["profile"] else None,
        correct_shading=values["lens_shading"],
        correct_defects=values["defect_correction"],
        tone=values["tone"],
        input_size=values["input_size"],
        confidence=values["confidence"],
        iou_threshold=values["iou"],
        max_detections=values["max_detections"],
        classes=tuple(values["class"] or ()),
        min_size=values["min_size"],
        detection_regions=tuple(map(options.parse_region, values["region"] or ())),
        class_agnostic=values["class_agnostic"],
        track=values["track"],
        regions=load_regions(values["zone"]) if values["zone"] else None,
        tile=None if values["tile"] is None else options.parse_size(values["tile"]),
        memory_budget_bytes=None if memory_budget is None else memory_budget * 10**6,
    )
