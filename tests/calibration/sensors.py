"""Random sensors, and what they see of a dark box, a flat field and a colour chart."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_isp.calibration.measure.colour_chart import COLUMNS, ROWS, Corners
from edge_isp.calibration.measure.stack import Stack
from edge_isp.calibration.profile import AwbPoint, ColourMatrix, Defect, Noise, SensorProfile
from edge_isp.calibration.shading import ColourShading, Shading
from edge_isp.calibration.simulation import Imperfections, SensorModel
from edge_isp.kernels.layout import CELL_PLANES

TEMPERATURE_K = 5000.0


@st.composite
def sensors(draw: st.DrawFn, *, shading: bool = False) -> SensorProfile:
    """Sensors of 8 to 16 bits, every CFA order, with noise that their codes can show.

    Read noise is 0.4 to 4 codes (at most 0.2 % of the range, where that is more than 0.6 codes): rounding hides less,
    and more takes more frames than a test has to know black level within 0.1 code. Row noise is up to a tenth of it.
    Shot noise is that of 1000 to 20000 electrons at white level.
    """
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    bit_depth = draw(st.integers(8, 16))
    highest = 2**bit_depth - 1
    most_codes = max(0.6, min(4.0, 2e-3 * highest))
    read = float(np.exp(rng.uniform(math.log(0.4), math.log(most_codes)))) / highest
    black = highest * rng.uniform(0.03, 0.08) + rng.uniform(-0.5, 0.5, 4) + 5
    black = np.maximum(black, 6 * read * highest)
    red, green_red, green_blue, blue = (float(level) for level in black)
    gains = rng.uniform([1.0, 1.0], [3.0, 3.0])
    # A mild random matrix: white stays white.
    crosstalk = rng.uniform(0.0, 0.25, (3, 3)) * (1 - np.eye(3))
    sees = np.eye(3) - np.diag(crosstalk.sum(axis=1)) + crosstalk
    matrix = np.linalg.inv(sees)
    return SensorProfile(
        name="random",
        bit_depth=bit_depth,
        cfa=draw(st.sampled_from(list(CELL_PLANES))),
        black_level=(red, green_red, green_blue, blue),
        white_level=float(highest),
        noise=Noise(
            shot=float(np.exp(rng.uniform(math.log(5e-5), math.log(1e-3)))),
            read_pre_gain=0.0,
            read_post_gain=read**2,
            pixel_response=float(rng.uniform(0, 0.01)),
            row=float(rng.uniform(0, 0.1)) * read,
        ),
        awb_curve=(AwbPoint(TEMPERATURE_K, 1 / float(gains[0]), 1 / float(gains[1])),),
        colour_matrices=(ColourMatrix(TEMPERATURE_K, tuple(matrix.ravel().tolist())),),
        shading=random_shading(rng) if shading else None,
    )


def random_shading(rng: np.random.Generator, rows: int = 6, columns: int = 8) -> Shading:
    """Light that falls off towards the corners (to a third at most) from somewhere near the middle, in colour too."""
    y, x = np.mgrid[0:rows, 0:columns]
    y, x = (y + 0.5) / rows * 2 - 1, (x + 0.5) / columns * 2 - 1
    centre = rng.uniform(-0.2, 0.2, 2)
    distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    luminance = 1 + rng.uniform(0, 0.7) * distance + rng.uniform(0, 0.1) * distance**2
    red = 1 + rng.uniform(0, 0.2) * distance / 2 + rng.uniform(-0.03, 0.03) * x
    blue = 1 + rng.uniform(0, 0.1) * distance / 2 + rng.uniform(-0.03, 0.03) * y
    return Shading(
        rows,
        columns,
        tuple((luminance / luminance.min()).ravel().tolist()),
        (
            ColourShading(
                TEMPERATURE_K, tuple((red / red.min()).ravel().tolist()), tuple((blue / blue.min()).ravel().tolist())
            ),
        ),
    )


def stack_of(
    profile: SensorProfile,
    scene: NDArray[np.float32],
    frames: int,
    *,
    exposure: float = 1.0,
    gain: float = 1.0,
    seed: int = 0,
    exposure_ns: int | None = None,
    changes: tuple[float, ...] = (),
    imperfections: Imperfections | None = Imperfections(),
) -> Stack:
    """Frames of a scene (height, width, 3); `changes` are factors on the light of each frame."""
    model = SensorModel(profile)
    rng = np.random.default_rng(seed)
    codes = [
        model.codes(
            scene,
            rng,
            colour_temperature_k=TEMPERATURE_K,
            exposure=exposure * (changes[i] if changes else 1.0),
            analogue_gain=gain,
            imperfections=imperfections,
        )
        for i in range(frames)
    ]
    return Stack(
        np.stack(codes),
        "simulated",
        profile.cfa,
        profile.bit_depth,
        profile.black_level,
        profile.white_level,
        profile.name,
        gain,
        exposure_ns,
        TEMPERATURE_K,
    )


def grey(level: float, height: int, width: int) -> NDArray[np.float32]:
    return np.full((height, width, 3), level, np.float32)


def chart_scene(colours: NDArray[np.float64], *, pitch: int = 24) -> tuple[NDArray[np.float32], Corners]:
    """A chart of 24 linear sRGB colours on black, and the centres of its corner patches."""
    scene = np.zeros(((ROWS + 1) * pitch, (COLUMNS + 1) * pitch, 3), np.float32)
    for index, colour in enumerate(colours):
        row, column = divmod(index, COLUMNS)
        top, left = row * pitch + pitch // 2 + 2, column * pitch + pitch // 2 + 2
        scene[top : top + pitch - 4, left : left + pitch - 4] = colour
    right, bottom = COLUMNS * pitch, ROWS * pitch
    return scene, ((pitch, pitch), (right, pitch), (right, bottom), (pitch, bottom))


DEFECTS = (Defect(11, 7, 1.0, 0.4), Defect(40, 23, 0.0, 0.0), Defect(41, 60, 0.0, 1.0))
