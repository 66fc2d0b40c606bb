"""`--camera SPEC`: a path, or NAME[:ARGUMENT][,key=value...]."""

from __future__ import annotations

import inspect
import re
from importlib import resources
from pathlib import Path

from edge_isp.cameras.base import Camera
from edge_isp.errors import CameraError
from edge_isp.plugins import load, names

DEMO = Path(str(resources.files("edge_isp"))) / "demo" / "spices.raw"


def open_camera(spec: str | None) -> Camera:
    """The camera that a specification names; without one, the recording that ships.

    Raises:
        CameraError: the specification cannot be understood.
        PluginError: there is no such camera.
    """
    if spec is None:
        spec = str(DEMO)
    if Path(spec).exists():
        camera: Camera = load("cameras", "replay")(spec)
        return camera
    head, *options = re.split(r",(?=\w+=)", spec)
    name, _, argument = head.partition(":")
    if name not in names("cameras"):
        raise CameraError(
            f"camera '{spec}': neither an existing file or folder nor NAME[:ARGUMENT][,key=value...] "
            f"with a NAME of: {', '.join(names('cameras'))}"
        )
    kind = load("cameras", name)
    parameters = inspect.signature(kind).parameters
    settings = dict(option.split("=", 1) for option in options)
    unknown = settings.keys() - {p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    if unknown:
        known = ", ".join(p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY) or "none"
        raise CameraError(f"camera '{spec}': unknown {', '.join(sorted(unknown))}; '{name}' knows: {known}")
    try:
        bound = inspect.signature(kind).bind(
            *([argument] if argument else []), **{key: _value(text) for key, text in settings.items()}
        )
    except TypeError as error:
        raise CameraError(f"camera '{spec}': {error}") from error
    opened: Camera = kind(*bound.args, **bound.kwargs)
    return opened


def _value(text: str) -> int | float | str | None:
    if text == "none":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
