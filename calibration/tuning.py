"""libcamera's tuning files (JSON, Raspberry Pi IPA), read as sensor profiles.

Every board with libcamera has one for its sensor, under libcamera's `ipa/rpi/vc4` or `ipa/rpi/pisp`
data folder. Figures in them are on a 16-bit scale. The noise slopes of the `pisp` files are about
1.4 times those of `vc4`, whose values agree with photon transfer: prefer the `vc4` file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_isp.calibration.profile import AwbPoint, ColourMatrix, Noise, SensorProfile
from edge_isp.errors import ProfileError

FULL_SCALE_16_BIT = 65535


def load_libcamera_tuning(
    path: str | Path, *, name: str | None = None, bit_depth: int = 10, cfa: str = "RGGB"
) -> SensorProfile:
    """A sensor profile out of a libcamera tuning file.

    Args:
        path: the JSON file (`imx219.json`, `vc4_imx219.json`).
        name: the sensor's name; by default the file's name without `vc4_`, `pisp_` and `.json`.
        bit_depth: of the codes to express black and white level in; the file does not say.
        cfa: the file does not say; a camera's own format overrides it anyway.

    The noise model of the file is std16 = constant + slope * sqrt(mean16), black subtracted, at
    analogue gain 1 (libcamera's ctt_noise.py): in linear light the shot coefficient is
    slope**2 / (65535 - black16). It knows no read noise.

    Raises:
        ProfileError: the file is missing, or is no libcamera tuning file.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path}: not a JSON file: {error}") from error
    try:
        algorithms = _algorithms(document)
        black16 = float(algorithms["rpi.black_level"]["black_level"])
        factor = 2.0 ** (bit_depth - 16)
        return SensorProfile(
            name=name or path.stem.removeprefix("vc4_").removeprefix("pisp_"),
            bit_depth=bit_depth,
            cfa=cfa,
            black_level=(black16 * factor,) * 4,
            white_level=2**bit_depth - 1,
            noise=_noise(algorithms.get("rpi.noise"), black16),
            awb_curve=_awb_curve(algorithms.get("rpi.awb", {}).get("ct_curve", [])),
            colour_matrices=tuple(
                ColourMatrix(float(entry["ct"]), tuple(float(v) for v in entry["ccm"]))
                for entry in algorithms.get("rpi.ccm", {}).get("ccms", [])
            ),
        )
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ProfileError(f"{path}: not a libcamera tuning file: {error!r}") from error


def _algorithms(document: Any) -> dict[str, dict[str, Any]]:
    """The algorithms by name. Version 2 files list them; version 1 files are a plain mapping."""
    if isinstance(document, dict) and isinstance(document.get("algorithms"), list):
        return {name: values for entry in document["algorithms"] for name, values in entry.items()}
    if isinstance(document, dict) and "rpi.black_level" in document:
        return document
    raise ProfileError("not a libcamera tuning file: it has no list 'algorithms'")


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
