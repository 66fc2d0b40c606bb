"""Cameras by specification, as `--camera` takes it: a path, or `NAME[:ARGUMENT][,key=value...]`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edge_isp.cameras.base import Camera
from edge_isp.errors import CameraError, shortened
from edge_isp.plugins import load, names
from edge_isp.spec import construct, parse_spec

_FILES = (".raw", ".dng", ".toml", ".mcap")


def demo_recording() -> Path:
    """The recording that comes with edge_isp: a `.raw` file of three frames, with its sidecar."""
    return Path(str(resources.files("edge_isp"))) / "demo" / "spices.raw"


def demo_scene() -> Path:
    """The photograph that comes with edge_isp, for the synthetic camera: a bird, which the shipped detector finds."""
    return Path(str(resources.files("edge_isp"))) / "demo" / "scene.jpg"


def open_camera(spec: str | Path | None = None) -> Camera:
    """Opens the camera that a specification names.

    Args:
        spec: the path of a recording, which has to exist: a `.raw`, a `.dng`, a folder of them, or a `.mcap`. Or
            `NAME[:ARGUMENT][,key=value...]`, where NAME is "picamera2", "v4l2", "synthetic", "replay", "mcap" or a
            plug-in's, such as "synthetic:photo.jpg,fps=30,width=1280,height=720"; the argument and the keys are those
            of the camera's class. None is the recording that comes with edge_isp, see `demo_recording`.

    Returns:
        The camera, for `Pipeline`; use it in a `with`, or close it.

    Raises:
        CameraError: the specification cannot be understood, or the camera cannot be opened.
        MissingDependencyError: the camera needs a package that is not installed.
    """
    text = str(demo_recording() if spec is None else spec)
    camera: Camera
    try:
        if _is_path(text):
            camera = load("cameras", "mcap" if Path(text).suffix.lower() == ".mcap" else "replay")(text)
        elif _looks_like_path(text):
            raise CameraError(f"camera '{shortened(text)}': no such file or folder")
        else:
            camera = construct("cameras", parse_spec(text))
    except OSError as error:
        raise CameraError(f"camera '{shortened(text)}': {error.strerror or error}") from error
    return camera


def _is_path(text: str) -> bool:
    if "\0" in text:
        raise CameraError(f"camera '{shortened(text)}': a specification must not contain NUL characters")
    if not text:
        raise CameraError(
            "camera '': expected a recording's path or NAME[:ARGUMENT][,key=value...] with a NAME of: "
            + ", ".join(names("cameras"))
        )
    return Path(text).exists()


def _looks_like_path(text: str) -> bool:
    """Whether something that is not there was meant as a path, so that a message about camera names would mislead."""
    name = parse_spec(text).name
    return name not in names("cameras") and ("/" in name or Path(name).suffix.lower() in _FILES)
