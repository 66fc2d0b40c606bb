"""What `edge-isp serve` does: a live view and its server, until a signal or a failure of the stream ends it."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.logging import RichHandler

from edge_isp.calibration.profile import load_profile
from edge_isp.cameras.spec import demo_scene, open_camera
from edge_isp.cli.configuration import for_task
from edge_isp.cli.tables import plain_console
from edge_isp.engines.fallback import Delegation
from edge_isp.errors import ServerError
from edge_isp.pipeline import ModelOptions
from edge_isp.server.cameras_view import CamerasView, check_name
from edge_isp.server.live_view import LiveView
from edge_isp.server.serving import LiveServer, check_packages, read_token
from edge_isp.tracking import load_regions


@dataclass(frozen=True, slots=True)
class Served:
    """What is served; see the options of `edge-isp serve`."""

    cameras: tuple[str, ...]
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
    at_once: bool
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
    cameras = named_cameras(served.cameras) or {"": f"synthetic:{demo_scene()},fps=15,width=640,height=480"}
    failed = threading.Event()
    with ExitStack() as stack:
        views: dict[str, LiveView] = {}
        for name, spec in cameras.items():
            first = next(iter(views.values()), None)
            views[name] = stack.enter_context(_live_view(served, name, spec, first, failed, alone=len(cameras) == 1))
        view: LiveView | CamerasView = next(iter(views.values()))
        if len(views) > 1:
            view = stack.enter_context(CamerasView(views, on_failed=failed.set, notify_systemd=True))
        view.start()  # what is wrong with a camera is said before there is a link
        with LiveServer(view, host=served.host, port=served.port, token=token) as server:
            print(f"live view: {server.url}", flush=True)
            failed.wait()
        error = next(iter(views.values())).pipeline.error
        if error is not None:
            raise error


def _live_view(
    served: Served, name: str, spec: str, first: LiveView | None, failed: threading.Event, *, alone: bool
) -> LiveView:
    """The view of a camera, alone or one of several."""
    return LiveView(
        partial(open_camera, spec),
        _models(served),
        auto_exposure=served.auto_exposure,
        recordings=served.recordings if alone else served.recordings / name,
        before_s=served.before_s,
        after_s=served.after_s,
        on_failed=failed.set if alone else None,
        notify_systemd=alone,
        in_turn_with=None if served.at_once else first,
    )


def named_cameras(cameras: Sequence[str]) -> dict[str, str]:
    """Specifications of cameras by name.

    Args:
        cameras: each [NAME=]SPEC, as `--camera` takes it.

    Raises:
        ServerError: a name is none, or two cameras have the same.
    """
    named: dict[str, str] = {}
    for number, text in enumerate(cameras, 1):
        match = re.fullmatch(r"([^=:,./]*)=(.+)", text, re.DOTALL)
        name, spec = (match[1], match[2]) if match else (f"camera{number}", text)
        check_name(name)
        if name in named:
            raise ServerError(f"two cameras are named '{name}': give each its own name, as in door=picamera2:0")
        named[name] = spec
    return named


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
