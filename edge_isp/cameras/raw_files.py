"""Frames to `.raw` files with sidecars, which `ReplayCamera` reads back."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path

from edge_isp.cameras.sidecar import FLIPS, FrameConditions
from edge_isp.errors import SinkError
from edge_isp.files import write_file
from edge_isp.frame import RawFrame, RecordedFrame
from edge_isp.frame_check import check_frame

# What describes a `.raw` file: nobody else's may lie beside it.
_DESCRIPTIONS = (".toml", ".json")
# Of a file: a sidecar may have 2 MiB (`toml_file.LARGEST_FILE_BYTES`), and says up to 600 bytes of a frame.
_MOST_FRAMES = 3000


class RawFiles:
    """Writes frames to NAME.raw, and a new file NAME_2.raw wherever their format or levels change, or a sidecar would
    become too long; a context manager.

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
        begins = first is None or _head(first) != _head(frame) or len(self._conditions) >= _MOST_FRAMES
        if begins:
            self.close()
            number = f"_{len(self.paths) + 1}" if self.paths else ""
            path = self._folder / f"{self._name}{number}.raw"
            for there in (path.with_suffix(suffix) for suffix in _DESCRIPTIONS):
                if there.exists():
                    raise SinkError(f"{there}: is there already; choose another folder")
        else:
            path = self.paths[-1]
        try:
            with path.open("xb" if begins else "ab") as file:
                file.write(frame.data.tobytes())
        except FileExistsError as error:
            raise SinkError(f"{path}: is there already; choose another folder") from error
        except OSError as error:
            raise SinkError(f"{path}: cannot be written: {error.strerror or error}") from error
        if begins:
            self.paths.append(path)
            self._first = frame
        self._conditions.append(_conditions(frame))

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
                lines.append(f"{field.name} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _head(frame: RawFrame) -> tuple[object, ...]:
    """What all frames of a file have in common."""
    return (frame.format, frame.sensor, frame.black_level, frame.white_level, frame.window, frame.lens_shading)


def _conditions(frame: RawFrame) -> FrameConditions:
    """What a sidecar says of a frame."""
    taken_at = frame.taken_at if isinstance(frame, RecordedFrame) else None
    if taken_at is not None and (taken_at.utcoffset() or timedelta()) % timedelta(minutes=1):
        taken_at = None  # TOML's offsets are whole minutes
    return FrameConditions(
        colour_gains=frame.colour_gains,
        colour_temperature_k=frame.colour_temperature_k,
        analogue_gain=frame.analogue_gain,
        digital_gain=frame.digital_gain,
        exposure_ns=None if frame.exposure_ns is None else max(round(frame.exposure_ns), 1),
        colour_matrix=frame.colour_matrix,
        orientation=None if frame.orientation == 1 else frame.orientation,
        noise_profile=frame.noise_profile,
        baseline_exposure_ev=frame.baseline_exposure_ev,
        taken_at=taken_at,
    )


def _value(value: float | tuple[float, ...] | datetime) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return _numbers(value) if isinstance(value, tuple) else _number(value)


def _number(value: float) -> str:
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def _numbers(values: tuple[float, ...]) -> str:
    return f"[{', '.join(_number(value) for value in values)}]"
