"""Frames to `.raw` files with sidecars, which `ReplayCamera` reads back."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from edge_isp.cameras.sidecar import FLIPS, FrameConditions
from edge_isp.errors import SinkError
from edge_isp.files import write_file
from edge_isp.frame import RawFrame
from edge_isp.frame_check import check_frame


class RawFiles:
    """Writes frames to NAME.raw, and a new file NAME_2.raw wherever their format or levels change; a context manager.

    A sidecar holds what `edge_isp.cameras.sidecar` says. Metadata that count as absent are left out.

    Args:
        folder: made if it does not exist.
        name: of the files.

    Attributes:
        paths: of the `.raw` files.

    Raises:
        SinkError: the folder cannot be made.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._first: RawFrame | None = None
        self._conditions: list[FrameConditions] = []
        self.paths: list[Path] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise SinkError(f"{folder}: cannot be made: {getattr(error, 'strerror', None) or error}") from error

    def write(self, frame: RawFrame) -> None:
        """Appends a frame.

        Args:
            frame: to write; not released.

        Raises:
            SinkError: it cannot be written, or a file of that name is there.
        """
        frame, _ = check_frame(frame)
        first = self._first
        if first is None or _head(first) != _head(frame):
            self.close()
            number = f"_{len(self.paths) + 1}" if self.paths else ""
            self.paths.append(self._folder / f"{self._name}{number}.raw")
            self._first = first = frame
        path = self.paths[-1]
        try:
            with path.open("ab" if self._conditions else "xb") as file:
                file.write(frame.data.tobytes())
        except FileExistsError as error:
            raise SinkError(f"{path}: is there already; choose another folder") from error
        except OSError as error:
            raise SinkError(f"{path}: cannot be written: {error.strerror or error}") from error
        self._conditions.append(
            FrameConditions(
                frame.colour_gains, frame.colour_temperature_k, frame.analogue_gain, frame.digital_gain, _whole(frame)
            )
        )

    def close(self) -> None:
        """Writes the sidecar of the present file. Idempotent.

        Raises:
            SinkError: it cannot be written.
        """
        if self._first is None:
            return
        path = self.paths[-1].with_suffix(".toml")
        first, self._first = self._first, None
        conditions, self._conditions = self._conditions, []
        try:
            write_file(path, format_sidecar(first, conditions).encode(), overwrite=False)
        except OSError as error:
            raise SinkError(f"{path}: cannot be written: {error.strerror or error}") from error

    def __enter__(self) -> RawFiles:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def format_sidecar(first: RawFrame, conditions: list[FrameConditions]) -> str:
    """A sidecar's content.

    Args:
        first: frame of the file.
        conditions: of each frame.
    """
    layout, window = first.format, first.window
    lines = [
        "[format]",
        f"width = {layout.width}",
        f"height = {layout.height}",
        f'cfa = "{layout.cfa}"',
        f"bit_depth = {layout.bit_depth}",
        f'packing = "{layout.packing}"',
        f"stride = {layout.stride}",
    ]
    if window is not None and window.width >= layout.width and window.height >= layout.height:
        lines.append(f"window = [{window.left}, {window.top}, {window.width}, {window.height}]")
        if window.flips is not None:
            named = next(name for name, flips in FLIPS.items() if flips == window.flips)
            lines.append(f'flips = "{named}"')
    lines.append("[sensor]")
    if first.sensor is not None:
        lines.append(f"name = {json.dumps(first.sensor)}")
    lines += [f"black_level = {_numbers(first.black_level)}", f"white_level = {_number(first.white_level)}"]
    if not first.lens_shading:
        lines.append("lens_shading = false")
    shared = conditions[:1] if all(each == conditions[0] for each in conditions) else conditions
    for each in shared:
        lines.append("[frame]" if len(shared) == 1 else "[[frame]]")
        for field in fields(each):
            value = getattr(each, field.name)
            if value is not None:
                lines.append(f"{field.name} = {_numbers(value) if isinstance(value, tuple) else _number(value)}")
    return "\n".join(lines) + "\n"


def _head(frame: RawFrame) -> tuple[object, ...]:
    """What all frames of a file have in common."""
    return (frame.format, frame.sensor, frame.black_level, frame.white_level, frame.window, frame.lens_shading)


def _whole(frame: RawFrame) -> int | None:
    return None if frame.exposure_ns is None else max(round(frame.exposure_ns), 1)


def _number(value: float) -> str:
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def _numbers(values: tuple[float, ...]) -> str:
    return f"[{', '.join(_number(value) for value in values)}]"
