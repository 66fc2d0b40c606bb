"""`edge-isp devices`: the cameras and engines that there are, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_isp.cli import options
from edge_isp.cli.tables import plain_console, text_table
from edge_isp.errors import EdgeIspError
from edge_isp.plugins import load, names
from edge_isp.spec import usage

if TYPE_CHECKING:
    from edge_isp.cameras.base import CameraDevice


@dataclass(frozen=True, slots=True)
class _Part:
    """A plug-in by name, and its devices if it is a camera.

    Attributes:
        name: as `--camera` and `--engine` take it.
        usage: the specification that it expects; the name where that is not known.
        devices: what was found; None where the class does not list any, or cannot be asked.
        problem: why it cannot be used, and how to mend that; None where it can.
    """

    name: str
    usage: str
    devices: tuple[CameraDevice, ...] | None
    problem: str | None


def devices(
    as_json: options.Json = False,
    media: Annotated[
        bool, typer.Option("--media", help="Draw the media devices instead, and propose a set-up file for each.")
    ] = False,
) -> None:
    """List cameras with their formats, sizes and rates, and engines; of what is missing, say why and what to do."""
    if media:
        _media(as_json)
        return
    cameras = [_camera(name) for name in names("cameras")]
    engines = [_Part(name, name, None, _load("engines", name)[1]) for name in names("engines")]
    if as_json:
        print(
            json.dumps({"cameras": [asdict(part) for part in cameras], "engines": [asdict(part) for part in engines]})
        )
        return
    console = plain_console()
    table = text_table("Cameras", "camera", "format", "size", "fps")
    for part in cameras:
        for row in _rows(part):
            table.add_row(*row)
    console.print(table)
    engine_table = text_table("Engines", "engine", "state")
    for part in engines:
        engine_table.add_row(part.name, "missing" if part.problem else "ready")
    console.print(engine_table)
    for note in [*_notes(cameras), *(f"{part.name}: {part.problem}" for part in engines if part.problem)]:
        console.print(f"- {note}", soft_wrap=True)


def _media(as_json: bool) -> None:
    from edge_isp.cameras.v4l2.graph import media_graphs

    graphs = media_graphs()
    if as_json:
        print(json.dumps([asdict(graph) for graph in graphs]))
        return
    if not graphs:
        print("no media device: the cameras of this machine need no set-up")
    for graph in graphs:
        print(graph.problem or f"{graph.path}: {graph.driver}, {graph.model}, {graph.bus}")
        for line in graph.lines:
            print(f"  {line}")
        if graph.setup is not None:
            print("  a set-up file (--camera v4l2,setup=FILE):\n")
            print("\n".join(f"    {line}" if line else "" for line in graph.setup.splitlines()))
        print()


def _rows(part: _Part) -> Iterator[tuple[str, str, str, str]]:
    """What the table shows of a kind of camera: each device, whether it can be used or not."""
    if part.problem:
        yield part.name, "missing", "", ""
    elif part.devices is None:
        yield part.usage, "ready", "", ""
    for device in part.devices or ():
        title = f"{device.spec}\n  {device.name}"
        if not device.modes:
            yield title, "cannot be used" if device.problem else "", "", ""
        for number, (size, rates, formats) in enumerate(_by_size(device)):
            yield title if number == 0 else "", formats, size, rates


def _notes(cameras: list[_Part]) -> Iterator[str]:
    """What is wrong, a line each."""
    for part in cameras:
        if part.problem:
            yield f"{part.name}: {part.problem}"
        elif part.devices == ():
            yield f"{part.name}: no device found"
        for device in part.devices or ():
            if device.problem:
                yield f"{device.spec} ({device.name}): {device.problem}"


def _by_size(device: CameraDevice) -> list[tuple[str, str, str]]:
    """Sizes and rates of a camera, each with the formats that it has them in."""
    formats: dict[tuple[str, str], list[str]] = {}
    for mode in device.modes:
        formats.setdefault((mode.size, ", ".join(f"{fps:g}" for fps in mode.fps)), []).append(mode.format)
    return [(size, rates, ", ".join(names)) for (size, rates), names in formats.items()]


def _load(kind: str, name: str) -> tuple[Any, str | None]:
    """A plug-in's class, or None and why it cannot be loaded.

    Another package's code runs here, and what is wrong with one plug-in must not hide the others.
    """
    try:
        return load(kind, name), None
    except Exception as error:  # noqa: BLE001 - shown to the user
        return None, _message(error)


def _camera(name: str) -> _Part:
    """A kind of camera, asked for its devices where it can list them; see `_load`."""
    found, problem = _load("cameras", name)
    shown = name if found is None else usage(name, found)
    lister = getattr(found, "devices", None)
    if lister is None:
        return _Part(name, shown, None, problem)
    try:
        return _Part(name, shown, tuple(lister()), None)
    except Exception as error:  # noqa: BLE001 - shown to the user
        return _Part(name, shown, None, _message(error))


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, EdgeIspError) else f"{type(error).__name__}: {error}"
