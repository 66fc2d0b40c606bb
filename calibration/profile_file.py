"""Writing a sensor profile as its TOML file; `profile.parse_profile` reads it back to the same profile."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edge_isp.calibration.profile import TONE_SCALE, Provenance, SensorProfile
from edge_isp.calibration.shading import Shading
from edge_isp.errors import ProfileError
from edge_isp.files import write_file


def save_profile(profile: SensorProfile, path: str | Path) -> None:
    """Writes a profile's TOML file whole, or not at all.

    Args:
        profile: to write.
        path: of the file.

    Raises:
        ProfileError: it cannot be written there.
    """
    path = Path(path)
    try:
        write_file(path, format_profile(profile).encode("utf-8"), overwrite=True)
    except OSError as error:
        raise ProfileError(f"{path}: cannot be written: {error.strerror}") from error


def format_profile(profile: SensorProfile) -> str:
    """A profile as TOML: every number to its last digit, grids row by row.

    Args:
        profile: to write.
    """
    parts = [_sensor(profile)]
    if profile.noise:
        noise = profile.noise
        names = ("shot", "read_pre_gain", "read_post_gain", "pixel_response", "row")
        known = [(name, float(getattr(noise, name))) for name in names]
        parts.append(["[noise]", *(f"{name} = {_scientific(value)}" for name, value in known if value)])
    if profile.awb_curve:
        curve = [(p.colour_temperature_k, p.red_over_green, p.blue_over_green) for p in profile.awb_curve]
        parts.append(["[awb]", *_rows("curve", curve)])
    for entry in profile.colour_matrices:
        rows = [entry.matrix[i : i + 3] for i in (0, 3, 6)]
        parts.append(
            [
                "[[colour_matrix]]",
                f"colour_temperature_k = {_number(entry.colour_temperature_k)}",
                "matrix = [",
                *(f"    {', '.join(map(_number, row))}," for row in rows),
                "]",
            ]
        )
    if profile.tone_curve:
        parts.append(
            [
                "[tone]",
                f"# linear light and picture value, both 0 to {TONE_SCALE}",
                *_rows("curve", profile.tone_curve),
            ]
        )
    if profile.shading:
        parts.extend(_shading(profile.shading))
    if profile.defects:
        pixels = [(d.x, d.y, d.response, d.offset) for d in profile.defects]
        parts.append(["[defects]", "# x, y, response, offset", *_rows("pixels", pixels)])
    parts.extend(_provenance(origin) for origin in profile.provenance)
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _sensor(profile: SensorProfile) -> list[str]:
    lines = ["[sensor]", f"name = {_text(profile.name)}", f"bit_depth = {profile.bit_depth}"]
    if profile.bit_depths:
        lines.append(f"bit_depths = {_array(profile.bit_depths)}")
    if profile.size is not None:
        lines.append(f"size = {_array(profile.size)}")
    lines += [f"cfa = {_text(profile.cfa)}"]
    if not profile.cfa_follows_flips:
        lines.append("cfa_follows_flips = false")
    lines += [f"black_level = {_array(profile.black_level)}"]
    if any(profile.black_level_drift):
        lines.append(f"black_level_drift = {_array(profile.black_level_drift)}")
    return [*lines, f"white_level = {_number(profile.white_level)}"]


def _shading(shading: Shading) -> Iterable[list[str]]:
    def grid(name: str, table: Sequence[float]) -> list[str]:
        starts = range(0, len(table), shading.columns)
        return _rows(name, [table[start : start + shading.columns] for start in starts])

    yield [
        "[shading]",
        f"rows = {shading.rows}",
        f"columns = {shading.columns}",
        f"luminance_strength = {_number(shading.luminance_strength)}",
        *grid("luminance", shading.luminance),
    ]
    for entry in shading.colour:
        yield [
            "[[shading.colour]]",
            f"colour_temperature_k = {_number(entry.colour_temperature_k)}",
            *grid("red", entry.red),
            *grid("blue", entry.blue),
        ]


def _provenance(origin: Provenance) -> list[str]:
    named = [(name, getattr(origin, name)) for name in ("source", "date", "conditions", "confidence")]
    return [f"[provenance.{origin.section}]", *(f"{name} = {_text(value)}" for name, value in named if value)]


def _rows(name: str, rows: Iterable[Sequence[float]]) -> list[str]:
    return [f"{name} = [", *(f"    {_array(row)}," for row in rows), "]"]


def _array(values: Iterable[float]) -> str:
    return f"[{', '.join(map(_number, values))}]"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def _scientific(value: float) -> str:
    return np.format_float_scientific(value, trim="0")


def _text(value: str) -> str:
    # TOML's basic strings are JSON's, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
