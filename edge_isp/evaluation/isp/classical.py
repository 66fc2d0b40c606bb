"""Classical pictures of simulated RAW: the baselines that a network is compared with.

RAW codes become linear light, which is white-balanced (clipped at white), demosaiced, taken through the colour matrix
and the curve of sRGB, rounded to 8 bits, and denoised by non-local means (NLM: Buades, Coll, Morel: "A non-local
algorithm for image denoising", CVPR 2005). White balance and colour matrix are those that the RAW was simulated with:
no camera knows them so well.

Needs OpenCV and colour-demosaicing (the extra `evaluate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from colour_demosaicing import demosaicing_CFA_Bayer_Malvar2004, demosaicing_CFA_Bayer_Menon2007
from numpy.typing import NDArray

from edge_isp.calibration.light import srgb_encode
from edge_isp.calibration.simulation import SensorModel, black_level_mosaic, mosaic
from edge_isp.errors import EvaluationError
from edge_isp.evaluation.exposures import SimulatedExposure
from edge_isp.evaluation.isp.methods import Develop, Rgb
from edge_isp.evaluation.store import Method
from edge_isp.training.simulation.samples import Capture

FloatArray = NDArray[np.floating[Any]]

# Strengths of NLM: OpenCV's h (for lightness) and hColor (for the two axes of colour), in levels of 8 bits.
Strengths = tuple[float, float]

# By demosaicing, sensor and analogue gain.
StrengthsTable = Mapping[tuple[str, str, float], Strengths]

# Found by `edge-isp evaluate isp --classical --tune-on kodim01.png` (and 05, 09, 13, 19, 23): on six images of the very
# set that Kodak figures are measured on, with their noise. That favours the classical pictures; it is meant to. Found
# under daylight (5700 K), used at every colour temperature.
STRENGTHS: StrengthsTable = {
    ("Malvar", "imx219", 1.0): (3, 20),
    ("Malvar", "imx219", 4.0): (6, 20),
    ("Malvar", "imx219", 16.0): (10, 20),
    ("Malvar", "imx477", 1.0): (2, 20),
    ("Malvar", "imx477", 4.0): (4, 20),
    ("Malvar", "imx477", 16.0): (6, 20),
    ("Malvar", "imx708", 1.0): (0, 20),
    ("Malvar", "imx708", 4.0): (3, 20),
    ("Malvar", "imx708", 16.0): (6, 20),
    ("Malvar", "ov5647", 1.0): (3, 20),
    ("Malvar", "ov5647", 4.0): (4, 20),
    ("Malvar", "ov5647", 16.0): (10, 20),
    ("Menon", "imx219", 1.0): (2, 10),
    ("Menon", "imx219", 4.0): (4, 10),
    ("Menon", "imx219", 16.0): (10, 20),
    ("Menon", "imx477", 1.0): (2, 10),
    ("Menon", "imx477", 4.0): (3, 10),
    ("Menon", "imx477", 16.0): (6, 10),
    ("Menon", "imx708", 1.0): (0, 10),
    ("Menon", "imx708", 4.0): (3, 10),
    ("Menon", "imx708", 16.0): (6, 10),
    ("Menon", "ov5647", 1.0): (2, 10),
    ("Menon", "ov5647", 4.0): (4, 10),
    ("Menon", "ov5647", 16.0): (10, 20),
    ("Menon on roots", "imx219", 1.0): (2, 10),
    ("Menon on roots", "imx219", 4.0): (4, 10),
    ("Menon on roots", "imx219", 16.0): (8, 20),
    ("Menon on roots", "imx477", 1.0): (2, 3),
    ("Menon on roots", "imx477", 4.0): (3, 10),
    ("Menon on roots", "imx477", 16.0): (6, 10),
    ("Menon on roots", "imx708", 1.0): (0, 3),
    ("Menon on roots", "imx708", 4.0): (3, 3),
    ("Menon on roots", "imx708", 16.0): (6, 10),
    ("Menon on roots", "ov5647", 1.0): (2, 10),
    ("Menon on roots", "ov5647", 4.0): (4, 10),
    ("Menon on roots", "ov5647", 16.0): (8, 10),
}

# What `tune` chooses from.
_LIGHTNESS_GRID = (0, 2, 3, 4, 6, 8, 10, 14, 20)
_COLOUR_GRID = (3, 10, 20)

# Sides of NLM's patches and of the window that it looks for like ones in: OpenCV's defaults.
_PATCH, _WINDOW = 7, 21


def _malvar(light: FloatArray, cfa: str) -> FloatArray:
    # The package repeats the outermost pixels beyond the border, which would put one colour in another's place;
    # mirrored at them, every colour stays in its own.
    border = 4
    padded = demosaicing_CFA_Bayer_Malvar2004(np.pad(light, border, mode="reflect"), cfa)
    return padded[border:-border, border:-border]


def _menon(light: FloatArray, cfa: str) -> FloatArray:
    return demosaicing_CFA_Bayer_Menon2007(light, cfa)


def _menon_on_roots(light: FloatArray, cfa: str) -> FloatArray:
    """Edges are found by differences, which shot noise disturbs equally at every brightness behind a square root."""
    return np.clip(demosaicing_CFA_Bayer_Menon2007(np.sqrt(light), cfa), 0, 1) ** 2


def _edge_aware(light: FloatArray, cfa: str) -> FloatArray:
    # OpenCV has each order under two names; those of four letters are read from pixel (0,0), as ours are.
    code = getattr(cv2, f"COLOR_Bayer{cfa}2RGB_EA")
    return cv2.cvtColor(np.rint(light * 65535).astype(np.uint16), code) / 65535


# White-balanced light (height, width), 0 to 1, of a colour order, to RGB (height, width, 3).
# Malvar, He, Cutler: "High-quality linear interpolation for demosaicing of Bayer-patterned color images", ICASSP 2004.
# Menon, Andriani, Calvagno: "Demosaicing with directional filtering and a posteriori decision", IEEE Transactions on
# Image Processing 2007.
DEMOSAICINGS: dict[str, Callable[[FloatArray, str], FloatArray]] = {
    "Malvar": _malvar,
    "Menon": _menon,
    "Menon on roots": _menon_on_roots,
    "OpenCV edge-aware": _edge_aware,
}
DENOISED = ("Malvar", "Menon", "Menon on roots")


def classical_methods(table: StrengthsTable) -> list[Method[Rgb]]:
    """Every demosaicing, then those of `DENOISED` with NLM at the table's strengths.

    Args:
        table: see `STRENGTHS`.
    """
    plain = [_method(name, name, None) for name in DEMOSAICINGS]
    return plain + [_method(f"{name}, NLM", name, table) for name in DENOISED]


def _method(name: str, demosaicing: str, table: StrengthsTable | None) -> Method[Rgb]:
    def made_with(sensor: SensorModel, capture: Capture) -> str:
        if table is None:
            return ""
        h, h_colour = strengths(table, demosaicing, sensor, capture)
        return f"h {h:g}, hColor {h_colour:g}"

    @contextmanager
    def opened(sensor: SensorModel) -> Iterator[Develop]:
        def develop(exposure: SimulatedExposure) -> Rgb:
            rgb = picture(exposure, demosaicing)
            return rgb if table is None else denoise(rgb, strengths(table, demosaicing, sensor, exposure.capture))

        yield develop

    return Method(name, made_with, opened)


def strengths(table: StrengthsTable, demosaicing: str, sensor: SensorModel, capture: Capture) -> Strengths:
    """Of NLM, for pictures of a sensor at a capture's analogue gain.

    Args:
        table: see `STRENGTHS`.
        demosaicing: one of `DENOISED`.
        sensor: that was exposed.
        capture: the circumstances.

    Raises:
        EvaluationError: the table has none.
    """
    key = (demosaicing, sensor.profile.name, capture.analogue_gain)
    if key not in table:
        raise EvaluationError(
            f"no strengths of NLM are known for sensor '{key[1]}' at analogue gain {key[2]:g}; "
            "give photographs to find them on: --tune-on"
        )
    return table[key]


def picture(exposure: SimulatedExposure, demosaicing: str) -> Rgb:
    """The picture of a simulated exposure, uint8 (height, width, 3), not denoised.

    Args:
        exposure: of any colour order.
        demosaicing: one of `DEMOSAICINGS`.
    """
    profile, temperature = exposure.sensor.profile, exposure.capture.colour_temperature_k
    black = black_level_mosaic(profile.black_level, profile.cfa, exposure.codes.shape)
    gains = np.array(profile.normalised_gains(temperature), np.float32)
    balance = mosaic(np.broadcast_to(gains, exposure.photo.shape), profile.cfa)
    light = np.clip((exposure.codes - black).astype(np.float64) / (profile.white_level - black) * balance, 0, 1)
    rgb = np.clip(DEMOSAICINGS[demosaicing](light, profile.cfa), 0, 1)
    return np.rint(srgb_encode(rgb @ profile.colour_matrix(temperature).T) * 255).astype(np.uint8)


def denoise(rgb: Rgb, found: Strengths) -> Rgb:
    """A picture (height, width, 3) through OpenCV's NLM for coloured pictures.

    Args:
        rgb: sRGB, uint8.
        found: strengths.
    """
    h, h_colour = found
    bgr = cv2.fastNlMeansDenoisingColored(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), None, h, h_colour, _PATCH, _WINDOW)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def tune(pairs: Iterable[tuple[Rgb, Rgb]]) -> Strengths:
    """The strengths of a coarse grid that give the highest mean PSNR.

    Args:
        pairs: noisy pictures, each with its truth, uint8 (height, width, 3).
    """
    total = np.zeros((len(_LIGHTNESS_GRID), len(_COLOUR_GRID)))
    for rgb, photo in pairs:
        # As OpenCV's NLM for coloured pictures does it, but lightness and colour are denoised once per strength, not
        # once per pair of strengths.
        truth = cv2.cvtColor(photo, cv2.COLOR_RGB2BGR)
        lab = np.asarray(cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), cv2.COLOR_LBGR2Lab), np.uint8)
        lightness = [_denoise_plane(lab[..., :1], h) for h in _LIGHTNESS_GRID]
        colours = [_denoise_plane(lab[..., 1:], h) for h in _COLOUR_GRID]
        for i, plane in enumerate(lightness):
            for j, axes in enumerate(colours):
                total[i, j] += cv2.PSNR(cv2.cvtColor(np.dstack([plane, axes]), cv2.COLOR_Lab2LBGR), truth)
    best = divmod(int(total.argmax()), len(_COLOUR_GRID))
    return _LIGHTNESS_GRID[best[0]], _COLOUR_GRID[best[1]]


def _denoise_plane(plane: Rgb, h: float) -> Rgb:
    denoised = cv2.fastNlMeansDenoising(np.ascontiguousarray(plane), None, h, _PATCH, _WINDOW)
    return np.asarray(denoised, np.uint8)
