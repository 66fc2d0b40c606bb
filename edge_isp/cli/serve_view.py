"""What `edge-isp serve` does: a live view and its server, until a signal or a failure of the stream ends it."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.logging import RichHandler

from edge_isp.calibration.profile import load_profile
from edge_isp.cameras.spec import demo_scene, open_camera
from edge_isp.cli.configuration import for_task
from edge_isp.cli.tables import plain_console
from edge_isp.engines.fallback import Delegation
from edge_isp.pipeline import ModelOptions
from edge_isp.server.live_view import LiveView
from edge_isp.server.serving import LiveServer, check_packages, read_token
from edge_isp.tracking import load_regions


@dataclass(frozen=True, slots=True)
class Served:
    """What is served; see the options of `edge-isp serve`."""

    camera: str | None
    models: tuple[str, ...]
    host: str
    port: int
    token_file: Path | None
    recordings: Path
    before_s: float
    after_s: float
    profile: str | None
    tone: str
    confidence: float | None
    iou: float | None
    max_detections: int | None
    classes: tuple[str, ...]
    min_size: float
    regions: tuple[tuple[float, float, float, float], ...]
    class_agnostic: bool
    track: bool
    zone: Path | None
    engine: str | None
    threads: int | None
    delegate: str
    auto_exposure: bool
    verbose: bool


def serve_view(served: Served) -> None:
    """Serves until a signal comes, which `edge_isp.cli.signals` raises here.

    Args:
        served: what is served.

    Raises:
        EdgeIspError: it cannot be served, or the stream has failed.
    """
    check_packages()
    logging.basicConfig(
        level=logging.INFO if served.verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=plain_console(stderr=True), show_path=False)],
    )
    token = read_token(served.token_file) if served.token_file else None
    failed = threading.Event()
    camera = served.camera or f"synthetic:{demo_scene()},fps=15,width=640,height=480"
    with LiveView(
        partial(open_camera, camera),
        _models(served),
        auto_exposure=served.auto_exposure,
        recordings=served.recordings,
        before_s=served.before_s,
        after_s=served.after_s,
        on_failed=failed.set,
        notify_systemd=True,
    ) as view:
        view.start()  # what is wrong with the camera is said before there is a link
        with LiveServer(view, host=served.host, port=served.port, token=token) as server:
            print(f"live view: {server.url}", flush=True)
            failed.wait()
        error = view.pipeline.error
        if error is not None:
            raise error


def _models(served: Served) -> list[ModelOptions]:
    """Options of each model; what is a detector's goes to detectors only."""
    shared = {
        "confidence": served.confidence,
        "iou": served.iou,
        "max_detections": served.max_detections,
        "class": served.classes,
        "min_size": served.min_size,
        "region": served.regions,
        "class_agnostic": served.class_agnostic,
        "track": served.track,
        "zone": served.zone,
    }
    models = []
    for name in served.models:
        own = for_task(shared, name)
        models.append(
            ModelOptions(
                name,
                engine=served.engine,
                threads=served.threads,
                delegation=Delegation(served.delegate),
                profile=load_profile(served.profile) if served.profile else None,
                tone=served.tone,
                confidence=own["confidence"],
                iou_threshold=own["iou"],
                max_detections=own["max_detections"],
                classes=tuple(own["class"]),
                min_size=own["min_size"],
                detection_regions=tuple(own["region"]),
                class_agnostic=own["class_agnostic"],
                track=own["track"],
                regions=load_regions(own["zone"]) if own["zone"] else None,
            )
        )
    return models
