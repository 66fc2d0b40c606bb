"""Patterns that photographs seldom hold and that demosaicing fails on: fine lines, text, point lights, hard edges.

Drawn in sRGB like photographs, so that the same simulation exposes them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FloatArray = NDArray[np.float64]

# The share of drawn patterns among the crops that are trained on; the rest are of photographs.
PATTERN_SHARE = 1 / 8

# Lines in cycles a pixel: from coarse to the limit of the mosaic.
_FREQUENCIES = (0.05, 0.5)

# Shapes are drawn this many times as large and averaged, so that edges lie between pixels.
_FINER = 4


def pattern(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A random pattern, uint8 (size, size, 3).

    Args:
        rng: that chooses.
        size: side in pixels.
    """
    drawn = _PATTERNS[int(rng.integers(len(_PATTERNS)))](rng, size)[..., None]
    first, second = _colours(rng)
    return np.rint(np.clip(first + (second - first) * drawn, 0, 1) * 255).astype(np.uint8)


def _colours(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Two colours: greys for most, else anything, from black to very saturated."""
    if rng.random() < 0.6:
        first, second = (np.full(3, value) for value in rng.random(2))
        return first, second
    saturated = (rng.random((2, 3)) > 0.5).astype(float) if rng.random() < 0.5 else rng.random((2, 3))
    return saturated[0], saturated[1]


def _places(size: int) -> tuple[FloatArray, FloatArray]:
    y, x = np.mgrid[:size, :size].astype(np.float64)
    return y, x


def _grating(rng: np.random.Generator, size: int) -> FloatArray:
    """Parallel lines of one frequency; half of them near the limit."""
    y, x = _places(size)
    angle = rng.uniform(0, np.pi)
    low, high = _FREQUENCIES if rng.random() < 0.5 else (0.35, 0.5)
    phase = 2 * np.pi * rng.uniform(low, high) * (x * np.cos(angle) + y * np.sin(angle))
    return 0.5 + 0.5 * np.sin(phase + rng.uniform(0, 2 * np.pi))


def _zone_plate(rng: np.random.Generator, size: int) -> FloatArray:
    """Rings whose frequency rises from the centre outwards up to the limit."""
    y, x = _places(size)
    centre_y, centre_x = rng.uniform(-0.5 * size, 1.5 * size, 2)
    farthest = np.hypot(max(centre_y, size - centre_y), max(centre_x, size - centre_x))
    squared = (y - centre_y) ** 2 + (x - centre_x) ** 2
    return 0.5 + 0.5 * np.cos(np.pi * rng.uniform(0.3, 0.5) * squared / farthest)


def _fabric(rng: np.random.Generator, size: int) -> FloatArray:
    """Two crossed gratings."""
    return _grating(rng, size) * _grating(rng, size)


def _drawn(rng: np.random.Generator, size: int, draw: Callable[[ImageDraw.ImageDraw, int], None]) -> FloatArray:
    image = Image.new("L", (size * _FINER, size * _FINER), 0)
    draw(ImageDraw.Draw(image), size * _FINER)
    shapes = np.asarray(image.reduce(_FINER), np.float64) / 255
    return shapes if rng.random() < 0.5 else 1 - shapes


def _lines(rng: np.random.Generator, size: int) -> FloatArray:
    """An engraving: families of thin lines that bend slightly."""

    def draw(canvas: ImageDraw.ImageDraw, side: int) -> None:
        angle, spacing = rng.uniform(0, np.pi), rng.uniform(2, 8) * _FINER
        bend, thickness = rng.uniform(-0.3, 0.3) / side, max(1, round(rng.uniform(0.2, 0.6) * spacing))
        along = np.linspace(-side, side, 33)
        for offset in np.arange(-side, side, spacing):
            across = offset + bend * along**2
            x = side / 2 + along * np.cos(angle) - across * np.sin(angle)
            y = side / 2 + along * np.sin(angle) + across * np.cos(angle)
            canvas.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=255, width=thickness)

    return _drawn(rng, size, draw)


def _text(rng: np.random.Generator, size: int) -> FloatArray:
    """Rows of random letters, from unreadably small to large."""

    def draw(canvas: ImageDraw.ImageDraw, side: int) -> None:
        height = float(rng.uniform(5, 24) * _FINER)
        font = ImageFont.load_default(height)
        for y in np.arange(0, side, height * 1.2):
            letters = "".join(chr(int(code)) for code in rng.integers(33, 127, 60))
            canvas.text((0, float(y)), letters, fill=255, font=font)

    return _drawn(rng, size, draw)


def _shapes(rng: np.random.Generator, size: int) -> FloatArray:
    """Hard edges of all angles."""

    def draw(canvas: ImageDraw.ImageDraw, side: int) -> None:
        for _ in range(int(rng.integers(1, 12))):
            corners = rng.uniform(-0.2, 1.2, (int(rng.integers(3, 6)), 2)) * side
            canvas.polygon([tuple(corner) for corner in corners.tolist()], fill=int(rng.integers(256)))

    return _drawn(rng, size, draw)


def _lights(rng: np.random.Generator, size: int) -> FloatArray:
    """Points of light, one to three pixels wide."""

    def draw(canvas: ImageDraw.ImageDraw, side: int) -> None:
        for _ in range(int(rng.integers(5, 80))):
            x, y = rng.uniform(0, side, 2).tolist()
            radius = float(rng.uniform(0.5, 1.5) * _FINER)
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=int(rng.integers(64, 256)))

    return _drawn(rng, size, draw)


_PATTERNS: tuple[Callable[[np.random.Generator, int], FloatArray], ...] = (
    _grating,
    _grating,
    _zone_plate,
    _fabric,
    _lines,
    _text,
    _shapes,
    _lights,
)
