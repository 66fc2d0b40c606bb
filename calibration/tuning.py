"""libcamera's tuning files (JSON, Raspberry Pi IPA), read as sensor profiles.

Every board with libcamera has one for its sensor, under libcamera's `ipa/rpi/vc4` or `ipa/rpi/pisp`
data folder. Figures in them are on a 16-bit scale. The noise slopes of the `pisp` files are about
1.4 times those of `vc4`, whose values agree with photon transfer: prefer the `vc4` file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from edge_isp.calibration.profile import (
    AwbPoint,
    ColourMatrix,
    Noise,
    Provenance,
    SensorProfile,
    load_profile,
    shipped_profiles,
)
from edge_isp.calibration.shading import ColourShading, Shading
from edge_isp.errors import ProfileError
from edge_isp.files import read_file

FULL_SCALE_16_BIT = 65535

# Columns and rows of the lens-shading tables: 16x12 cells of the vc4, 32x32 of the pisp.
_SHADING_GRIDS = {16 * 12: (16, 12), 32 * 32: (32, 32)}

_LARGEST_FILE_BYTES = 1 << 22

# Of a file that does not say: 64 of 10 bits.
_DEFAULT_BLACK_LEVEL = 4096

# One that is not closed ends with its line, so that its quotes are not tried again as the beginnings of others.
_TEXT = r'(?P<text>"(?:[^"\\\n]|\\.)*"?)'
_COMMENT = re.compile(_TEXT + r"|#[^\n]*")
_TRAILING_COMMA = re.compile(_TEXT + r"|,(?=\s*[\]}])")


def load_libcamera_tuning(
    path: str | Path, *, name: str | None = None, bit_depth: int = 10, cfa: str = "RGGB"
) -> SensorProfile:
    """A sensor profile from a libcamera tuning file, of version 1 or 2.

    libcamera reads its tuning files as YAML: a comma after the last entry, and comments, are allowed.

    The noise model of the file is std16 = constant + slope * sqrt(mean16), black subtracted, at
    analogue gain 1 (libcamera's ctt_noise.py): in linear light the shot coefficient is
    slope**2 / (65535 - black16). It knows no read noise.

    Args:
        path: the JSON file (`imx219.json`, `vc4_imx219.json`).
        name: the sensor's name; by default the file's name without `vc4_`, `pisp_` and `.json`.
        bit_depth: of the codes to express black and white level in; the file does not say.
        cfa: colour order from pixel (0,0); the file does not say, and a camera's own format overrides it.

    Raises:
        ProfileError: the file is missing, is no libcamera tuning file, or is of a monochrome sensor.
    """
    path = Path(path)
    document = _read_json(path)
    try:
        algorithms = _algorithms(document)
        # A colour sensor's camera has exposure control and white balance; a file with neither is a part of one.
        if "rpi.agc" in algorithms and not algorithms.keys() & {"rpi.awb", "rpi.ccm"}:
            raise ProfileError(
                "the tuning file of a monochrome sensor: it has neither rpi.awb nor rpi.ccm; expected a sensor with a "
                "Bayer colour filter array"
            )
        black16 = _black_levels(algorithms["rpi.black_level"])
        red, green, blue = (level * 2.0 ** (bit_depth - 16) for level in black16)
        name = name or path.stem.removeprefix("vc4_").removeprefix("pisp_")
        return SensorProfile(
            name=name,
            bit_depth=bit_depth,
            cfa=cfa,
            black_level=(red, green, green, blue),
            white_level=2**bit_depth - 1,
            size=_size(name),
            noise=_noise(algorithms.get("rpi.noise"), black16[1]),
            awb_curve=_awb_curve(algorithms.get("rpi.awb", {}).get("ct_curve", [])),
            colour_matrices=tuple(
                ColourMatrix(float(entry["ct"]), tuple(float(v) for v in entry["ccm"]))
                for entry in algorithms.get("rpi.ccm", {}).get("ccms", [])
            ),
            tone_curve=_tone_curve(algorithms.get("rpi.contrast", {}).get("gamma_curve", [])),
            shading=_shading(algorithms.get("rpi.alsc")),
            provenance=_provenance(path.name, algorithms),
        )
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ProfileError(f"{path}: not a libcamera tuning file: {error!r}") from error


def _size(name: str) -> tuple[int, int] | None:
    """Of the whole sensor, which tuning files do not say: as the shipped profile of the same sensor has it."""
    sensor = name.lower().partition("_")[0]
    return load_profile(sensor).size if sensor in shipped_profiles() else None


def _read_json(path: Path) -> Any:
    """The file's content; commas after the last entry and comments are left out."""
    content = read_file(path, ProfileError, _LARGEST_FILE_BYTES)
    try:
        text = _COMMENT.sub(_kept_text, content.decode("utf-8"))
        return json.loads(_TRAILING_COMMA.sub(_kept_text, text))
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path}: not a JSON file: {str(error)[:200]}") from error


def _kept_text(match: re.Match[str]) -> str:
    """Texts in quotes are kept as they are."""
    return match["text"] or ""


def _algorithms(document: Any) -> dict[str, dict[str, Any]]:
    """The algorithms by name. Version 2 files list them; version 1 files are a plain mapping."""
    if not isinstance(document, dict):
        raise ProfileError("not a libcamera tuning file: it has no list 'algorithms'")
    version = document.get("version", 1.0)
    if isinstance(version, bool) or not isinstance(version, int | float) or not 1 <= version < 3:
        raise ProfileError(f"version must be 1 or 2, found {str(version)[:60]}")
    if isinstance(document.get("algorithms"), list):
        return {name: values for entry in document["algorithms"] for name, values in entry.items()}
    if "rpi.black_level" in document:
        return document
    raise ProfileError("not a libcamera tuning file: it has no list 'algorithms'")


def _black_levels(values: dict[str, Any]) -> tuple[float, float, float]:
    """Black level of red, green and blue on a 16-bit scale, with libcamera's own defaults."""
    common = values.get("black_level", _DEFAULT_BLACK_LEVEL)
    red, green, blue = (float(values.get(f"black_level_{channel}", common)) for channel in "rgb")
    return red, green, blue


def _tone_curve(flat: list[float]) -> tuple[tuple[float, float], ...]:
    """rpi.contrast's gamma curve: linear light and picture value, both on a 16-bit scale."""
    if len(flat) % 2:
        raise ProfileError(f"rpi.contrast gamma_curve must hold pairs, found {len(flat)} numbers")
    return tuple((float(light), float(value)) for light, value in zip(flat[0::2], flat[1::2], strict=True))


def _noise(values: dict[str, Any] | None, black16: float) -> Noise | None:
    if values is None or float(values["reference_slope"]) == 0:
        return None
    full_scale = FULL_SCALE_16_BIT - black16
    return Noise(
        shot=float(values["reference_slope"]) ** 2 / full_scale,
        read_post_gain=(float(values["reference_constant"]) / full_scale) ** 2,
    )


def _awb_curve(flat: list[float]) -> tuple[AwbPoint, ...]:
    if len(flat) % 3:
        raise ProfileError(f"rpi.awb ct_curve must hold triples, found {len(flat)} numbers")
    triples = zip(flat[0::3], flat[1::3], flat[2::3], strict=True)
    return tuple(AwbPoint(float(t), float(r), float(b)) for t, r, b in triples)


def _shading(values: dict[str, Any] | None) -> Shading | None:
    """rpi.alsc's tables; None where it has no luminance table to say how large they are."""
    if values is None or "luminance_lut" not in values:
        return None
    luminance = tuple(float(gain) for gain in values["luminance_lut"])
    if len(luminance) not in _SHADING_GRIDS:
        expected = " or ".join(str(cells) for cells in _SHADING_GRIDS)
        raise ProfileError(f"rpi.alsc luminance_lut must be {expected} numbers, found {len(luminance)}")
    columns, rows = _SHADING_GRIDS[len(luminance)]
    red, blue = (
        {float(entry["ct"]): tuple(float(gain) for gain in entry["table"]) for entry in values.get(key, [])}
        for key in ("calibrations_Cr", "calibrations_Cb")
    )
    if red.keys() != blue.keys():
        raise ProfileError(
            f"rpi.alsc must have red and blue at the same colour temperatures, found {sorted(red)} and {sorted(blue)}"
        )
    return Shading(
        rows=rows,
        columns=columns,
        luminance=luminance,
        colour=tuple(ColourShading(ct, table, blue[ct]) for ct, table in red.items()),
        luminance_strength=float(values.get("luminance_strength", 1.0)),
    )


def _provenance(file: str, algorithms: dict[str, dict[str, Any]]) -> tuple[Provenance, ...]:
    read = (
        ("black_level", "rpi.black_level", "black_level"),
        ("noise", "rpi.noise", "reference_slope"),
        ("awb", "rpi.awb", "ct_curve"),
        ("colour_matrix", "rpi.ccm", "ccms"),
        ("tone", "rpi.contrast", "gamma_curve"),
        ("shading", "rpi.alsc", "luminance_lut"),
    )
    return tuple(
        Provenance(section, f"libcamera tuning file {file}, {algorithm}")
        for section, algorithm, key in read
        if key in algorithms.get(algorithm, {})
    )
