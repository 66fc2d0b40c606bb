"""`edge-isp devices`: the cameras and engines that there are, and what is missing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from edge_isp.cameras.base import CameraDevice
from edge_isp.errors import EdgeIspError
from edge_isp.plugins import load, names


@dataclass(frozen=True, slots=True)
class _Part:
    """A camera's or engine's class, by name; `problem` says why it cannot be used, and what mends it."""

    name: str
    devices: tuple[CameraDevice, ...] | None  # None where a class does not list any
    problem: str | None


def devices(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """List cameras with their formats, sizes and rates, and engines; for what is missing the reason and the way out."""
    cameras = [_part("cameras", name) for name in names("cameras")]
    engines = [_part("engines", name) for name in names("engines")]
    if as_json:
        print(
            json.dumps({"cameras": [asdict(part) for part in cameras], "engines": [asdict(part) for part in engines]})
        )
        return
    console = Console()
    table = Table("camera", "name", "format", "size", "frames/s", title="Cameras", title_justify="left")
    notes = []
    for part in cameras:
        if part.problem:
            notes.append(f"{part.name}: {part.problem}")
        elif part.devices is None:
            table.add_row(f"{part.name}:PATH", "a file, no device", "", "", "")
        elif not part.devices:
            notes.append(f"{part.name}: no device found")
        for device in part.devices or ():
            if device.problem:
                notes.append(f"{device.spec} ({device.name}): {device.problem}")
            for number, (size, rates, formats) in enumerate(_by_size(device)):
                first = (device.spec, device.name) if number == 0 else ("", "")
                table.add_row(*first, formats, size, rates)
    console.print(table)
    engine_table = Table("engine", "", title="Engines", title_justify="left")
    for part in engines:
        engine_table.add_row(part.name, "missing" if part.problem else "ready")
        if part.problem:
            notes.append(f"{part.name}: {part.problem}")
    console.print(engine_table)
    for note in notes:
        console.print(f"- {note}", highlight=False, markup=False, soft_wrap=True)


def _by_size(device: CameraDevice) -> list[tuple[str, str, str]]:
    """Sizes and rates of a camera, each with the formats that it has them in."""
    formats: dict[tuple[str, str], list[str]] = {}
    for mode in device.modes:
        formats.setdefault((mode.size, ", ".join(f"{fps:g}" for fps in mode.fps)), []).append(mode.format)
    return [(size, rates, ", ".join(names)) for (size, rates), names in formats.items()]


def _part(kind: str, name: str) -> _Part:
    """A plug-in that is loaded, and asked for its devices where it can tell them."""
    try:
        found = load(kind, name)
        lister = getattr(found, "devices", None)
        return _Part(name, None if lister is None else tuple(lister()), None)
    except (EdgeIspError, ImportError) as error:
        return _Part(name, None, str(error))
