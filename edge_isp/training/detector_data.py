"""Pairs for the detector: a picture for the teacher, and the RAW of the same scene for the student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_isp.calibration.forward import SensorModel
from edge_isp.calibration.light import srgb_decode
from edge_isp.calibration.profile import SensorProfile
from edge_isp.kernels.resample import encode_resampled, letterbox
from edge_isp.kernels.tables import encoding_table
from edge_isp.training.data import INPUT_CURVE, INPUT_SCALE, INPUT_ZERO_POINT, Capture

# What surrounds a letterboxed picture, of 255, as YOLOX was trained; a mosaic is surrounded by the same.
BORDER = 114

# Sides of the training pictures in pixels, and how many of them make a batch as large as any other.
_SIZES = ((256, 12), (320, 8), (416, 5))

_LINEAR_LIGHT = srgb_decode(np.arange(256, dtype=np.float32) / np.float32(255)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Pair:
    """One scene, or several of the same size (then with the batch before the shapes given here).

    Attributes:
        mosaic: float32 (4, size / 2, size / 2): planes R, Gr, Gb, B as the run time encodes them, 0 to 1.
        picture: float32 (3, size, size): sRGB, well exposed and without noise, 0 to 1.
    """

    mosaic: NDArray[np.float32]
    picture: NDArray[np.float32]


def load_image(path: Path) -> NDArray[np.uint8]:
    """An image as RGB, (height, width, 3), even sizes."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]


def picture(image: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """An image letterboxed as the run time letterboxes mosaics, (3, size, size), 0 to 1."""
    top, left, height, width = (2 * n for n in letterbox((image.shape[0] // 2, image.shape[1] // 2), (size // 2,) * 2))
    out = np.full((size, size, 3), BORDER, np.uint8)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    out[top : top + height, left : left + width] = np.asarray(resized)
    return out.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def expose(
    image: NDArray[np.uint8], sensor: SensorModel, capture: Capture, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """An sRGB image as the sensor sees it: RGGB codes (height, width)."""
    return sensor.codes(
        _LINEAR_LIGHT[image],
        rng,
        colour_temperature_k=capture.colour_temperature_k,
        exposure=capture.exposure,
        analogue_gain=capture.analogue_gain,
        cfa="RGGB",
    )


def encode(
    codes: NDArray[np.uint16], profile: SensorProfile, gains: tuple[float, float, float], size: int
) -> NDArray[np.float32]:
    """RGGB codes (height, width) to the student's planes (4, size / 2, size / 2), 0 to 1, by the run time's kernel.

    Args:
        gains: of the white balance.
    """
    table = encoding_table(
        bit_depth=profile.bit_depth,
        black_level=profile.black_level,
        white_level=profile.white_level,
        gains=gains,
        curve=INPUT_CURVE,
        scale=INPUT_SCALE,
        zero_point=INPUT_ZERO_POINT,
    )
    out = np.empty((size // 2, size // 2, 4), np.int8)
    encode_resampled(
        codes.view(np.uint8),
        out,
        width=codes.shape[1],
        height=codes.shape[0],
        packing="u16",
        bit_depth=profile.bit_depth,
        cfa="RGGB",
        tables=table,
        border=BORDER + INPUT_ZERO_POINT,
    )
    return (out.transpose(2, 0, 1).astype(np.float32) - INPUT_ZERO_POINT) * np.float32(INPUT_SCALE)


def pair(image: NDArray[np.uint8], sensor: SensorModel, capture: Capture, rng: np.random.Generator, size: int) -> Pair:
    """An image as the teacher and as the student see it; it must not be smaller than the letterbox's inside."""
    codes = expose(image, sensor, capture, rng)
    gains = sensor.profile.normalised_gains(capture.colour_temperature_k)
    return Pair(encode(codes, sensor.profile, gains, size), picture(image, size))


def stack(pairs: list[Pair]) -> Pair:
    """Pairs of one size as a batch."""
    return Pair(np.stack([p.mosaic for p in pairs]), np.stack([p.picture for p in pairs]))


class DetectorPairs:
    """Random views of images, each under random light, exposure and gain, seen by a random one of some sensors.

    Every second view is a collage of four images, half as large: more objects and smaller ones, and no labels that
    could be wrong, because the teacher looks at the collage. Batch `i` depends on nothing but the seed and `i`.

    Args:
        images: uint8 (height, width, 3), even sizes.
    """

    def __init__(self, images: list[NDArray[np.uint8]], sensors: Sequence[SensorModel], *, seed: int) -> None:
        self.images, self.sensors, self.seed = images, sensors, seed

    def make(self, index: int) -> Pair:
        """Batch `index`."""
        rng = np.random.default_rng([self.seed, index])
        size, count = _SIZES[int(rng.integers(len(_SIZES)))]
        return stack([self._pair(rng, size) for _ in range(count)])

    def batches(self, first: int, last: int) -> Iterator[Pair]:
        """Batches `first` to `last` (exclusive), some of them made ahead."""
        ahead = 3
        with ThreadPoolExecutor(1) as pool:
            pending = [pool.submit(self.make, i) for i in range(first, min(first + ahead, last))]
            for index in range(first, last):
                if index + ahead < last:
                    pending.append(pool.submit(self.make, index + ahead))
                yield pending.pop(0).result()

    def _pair(self, rng: np.random.Generator, size: int) -> Pair:
        sensor = self.sensors[int(rng.integers(len(self.sensors)))]
        # Frames are larger than the network's input by different factors: each is resampled on its way in.
        long = int(size * rng.uniform(1, 1.6)) // 4 * 4
        short = int(long * rng.choice((0.75, 1.0))) // 4 * 4
        height, width = (short, long) if rng.random() < 0.7 else (long, short)
        make = self._collage if rng.random() < 0.5 else self._view
        image = make(rng, height, width)
        return pair(np.ascontiguousarray(image), sensor, random_capture(rng), rng, size)

    def _collage(self, rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
        parts = [self._view(rng, height // 2, width // 2) for _ in range(4)]
        return np.concatenate((np.concatenate(parts[:2], 1), np.concatenate(parts[2:], 1)))

    def _view(self, rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
        """A random part of a random image, its proportions kept, mirrored every second time."""
        image = self.images[int(rng.integers(len(self.images)))]
        share = rng.uniform(0.5, 1)
        scale = max(height / image.shape[0], width / image.shape[1]) / share
        rows, columns = height / scale, width / scale
        top, left = rng.uniform(0, image.shape[0] - rows), rng.uniform(0, image.shape[1] - columns)
        box = (left, top, left + columns, top + rows)
        view = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box))
        return view[:, ::-1] if rng.random() < 0.5 else view


def random_capture(rng: np.random.Generator) -> Capture:
    """Light of 2.5 to 8.5 kK (even in mired), exposure 1/8 to 1, analogue gain 1 to 16; bright and clean more often."""
    return Capture(
        colour_temperature_k=float(1e6 / rng.uniform(1e6 / 8500, 1e6 / 2500)),
        exposure=float(2 ** (-3 * rng.random() ** 2)),
        analogue_gain=float(2 ** (4 * rng.random() ** 1.5)),
    )
