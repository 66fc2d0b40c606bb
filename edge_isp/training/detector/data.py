"""Pairs for the detector: a picture for the teacher, and the RAW of the same scene for the student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_isp.calibration.profile import SensorProfile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.kernels.layout import RawLayout
from edge_isp.kernels.resample import encode_resampled, letterbox
from edge_isp.kernels.tables import encoding_table
from edge_isp.training.simulation.samples import INPUT_CURVE, INPUT_SCALE, INPUT_ZERO_POINT, LINEAR_LIGHT, Capture

# What surrounds a letterboxed picture, of 255, as YOLOX was trained; a mosaic is surrounded by the same.
BORDER = 114

# Sides of the training pictures in pixels, and how many of them make a batch as large as any other.
_SIZES = ((256, 12), (320, 8), (416, 5))

# How many of the pairs are real, where there are recordings.
_REAL_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Pair:
    """One scene, or several of the same size (then with the batch before the shapes given here).

    Attributes:
        mosaic: float32 (4, size / 2, size / 2): planes R, Gr, Gb, B as the runtime encodes them, 0 to 1.
        picture: float32 (3, size, size): sRGB, well exposed and without noise, 0 to 1.
        objects: float32 (n, 6): number in the batch, class, then x0, y0, x1, y1 in pixels: labels, where there are any.
    """

    mosaic: NDArray[np.float32]
    picture: NDArray[np.float32]
    objects: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class View:
    """An image or a part of one.

    Attributes:
        image: uint8 (height, width, 3), even sizes.
        objects: float32 (n, 5): class, then x0, y0, x1, y1 in its pixels: labels, where there are any.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.float32]

    def placed(self, scale: tuple[float, float], corner: tuple[float, float]) -> View:
        """With its objects where they are when the image is scaled and then put at a corner, (y, x) both.

        Args:
            scale: vertical and horizontal factor.
            corner: row and column of the top left corner.
        """
        objects = self.objects.copy()
        objects[:, 1:] = objects[:, 1:] * np.tile(scale[::-1], 2) + np.tile(corner[::-1], 2)
        return View(self.image, objects)


NO_OBJECTS = np.empty((0, 5), np.float32)


def picture(image: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """An image letterboxed as the runtime letterboxes mosaics, (3, size, size), 0 to 1.

    Args:
        image: uint8 (height, width, 3), even sizes.
        size: side of the network's input in pixels.
    """
    height, width = image.shape[:2]
    return picture_of_part(image, (0, 0, width, height), (height, width), size)


def picture_of_part(
    image: NDArray[np.uint8], part: tuple[float, float, float, float], shape: tuple[int, int], size: int
) -> NDArray[np.float32]:
    """A part of an image, letterboxed as a mosaic of another size that shows the same is; see `picture`.

    Args:
        image: uint8 (height, width, 3).
        part: x0, y0, x1, y1 in pixels of the image.
        shape: height and width of the mosaic, even.
        size: side of the network's input in pixels.
    """
    top, left, height, width = (2 * n for n in letterbox((shape[0] // 2, shape[1] // 2), (size // 2, size // 2)))
    out = np.full((size, size, 3), BORDER, np.uint8)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, part)
    out[top : top + height, left : left + width] = np.asarray(resized)
    return out.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def expose(
    image: NDArray[np.uint8], sensor: SensorModel, capture: Capture, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """An sRGB image as the sensor sees it: RGGB codes (height, width).

    Args:
        image: uint8 (height, width, 3), even sizes.
        sensor: that sees it.
        capture: the circumstances.
        rng: of the noise.
    """
    return sensor.codes(
        LINEAR_LIGHT[image],
        rng,
        colour_temperature_k=capture.colour_temperature_k,
        exposure=capture.exposure,
        analogue_gain=capture.analogue_gain,
        cfa="RGGB",
    )


def encode(
    codes: NDArray[np.uint16], profile: SensorProfile, gains: tuple[float, float, float], size: int
) -> NDArray[np.float32]:
    """RGGB codes (height, width) to the student's planes (4, size / 2, size / 2), 0 to 1, by the runtime's kernel.

    Args:
        codes: of the sensor.
        profile: of the sensor.
        gains: of the white balance.
        size: side of the network's input in pixels.
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
    return encode_bytes(
        codes.view(np.uint8),
        table,
        size,
        RawLayout(codes.shape[1], codes.shape[0], "u16", profile.bit_depth, "RGGB"),
    )


def encode_bytes(
    data: NDArray[np.uint8], tables: NDArray[np.int8], size: int, layout: RawLayout
) -> NDArray[np.float32]:
    """RAW bytes to the student's planes, see `encode` and `kernels.resample.encode_resampled`.

    Args:
        data: RAW bytes.
        tables: that encode them, see `kernels.tables`.
        size: side of the network's input in pixels.
        layout: of the RAW bytes.
    """
    out = np.empty((size // 2, size // 2, 4), np.int8)
    border = BORDER + INPUT_ZERO_POINT
    encode_resampled(data, out, layout, tables=tables, border=border)
    return (out.transpose(2, 0, 1).astype(np.float32) - INPUT_ZERO_POINT) * np.float32(INPUT_SCALE)


def pair(view: View, sensor: SensorModel, capture: Capture, rng: np.random.Generator, size: int) -> Pair:
    """A view as the teacher and as the student see it; it must not be smaller than the letterbox's inside.

    Args:
        view: what is seen.
        sensor: that sees it.
        capture: the circumstances.
        rng: of the noise.
        size: side of the networks' inputs in pixels.
    """
    image = view.image
    codes = expose(image, sensor, capture, rng)
    gains = sensor.profile.normalised_gains(capture.colour_temperature_k)
    top, left, height, width = (
        2 * n for n in letterbox((image.shape[0] // 2, image.shape[1] // 2), (size // 2, size // 2))
    )
    objects = view.placed((height / image.shape[0], width / image.shape[1]), (top, left)).objects
    objects = np.concatenate([np.zeros((len(objects), 1), np.float32), objects], 1)
    return Pair(encode(codes, sensor.profile, gains, size), picture(image, size), objects)


def stack(pairs: list[Pair]) -> Pair:
    """Pairs of one size as a batch.

    Args:
        pairs: without a batch dimension.
    """
    objects = np.concatenate([p.objects for p in pairs])
    objects[:, 0] = np.repeat(np.arange(len(pairs)), [len(p.objects) for p in pairs])
    return Pair(np.stack([p.mosaic for p in pairs]), np.stack([p.picture for p in pairs]), objects)


class RealPair(Protocol):
    """A scene that is not simulated, see `recordings.Recording`."""

    def pair(self, rng: np.random.Generator, size: int) -> Pair:
        """A random part of it as the teacher and as the student see it.

        Args:
            rng: that chooses the part.
            size: side of the networks' inputs in pixels.
        """
        ...


class DetectorPairs:
    """Random views of images, each under random light, exposure and gain, seen by a random one of some sensors.

    Every second view is a collage of four images, half as large: more objects and smaller ones, and no labels that
    could be wrong, because the teacher looks at the collage. Batch `i` depends on nothing but the seed and `i`.

    Args:
        images: whole ones.
        sensors: that the images are seen through.
        seed: of everything random.
        recordings: real pairs, which every fourth pair is then taken from, or every one where there are no images.
    """

    def __init__(
        self,
        images: Sequence[View],
        sensors: Sequence[SensorModel],
        *,
        seed: int,
        recordings: Sequence[RealPair] = (),
    ) -> None:
        self.images, self.sensors, self.seed, self.recordings = images, sensors, seed, recordings

    def make(self, index: int) -> Pair:
        """Batch `index`.

        Args:
            index: number of the batch.
        """
        rng = np.random.default_rng([self.seed, index])
        size, count = _SIZES[int(rng.integers(len(_SIZES)))]
        return stack([self._pair(rng, size) for _ in range(count)])

    def batches(self, first: int, last: int) -> Iterator[Pair]:
        """Batches `first` to `last` (exclusive), some of them made ahead.

        Args:
            first: number of the first batch.
            last: number after that of the last batch.
        """
        ahead = 3
        with ThreadPoolExecutor(1) as pool:
            pending = [pool.submit(self.make, i) for i in range(first, min(first + ahead, last))]
            for index in range(first, last):
                if index + ahead < last:
                    pending.append(pool.submit(self.make, index + ahead))
                yield pending.pop(0).result()

    def _pair(self, rng: np.random.Generator, size: int) -> Pair:
        if self.recordings and (not self.images or rng.random() < _REAL_SHARE):
            return self.recordings[int(rng.integers(len(self.recordings)))].pair(rng, size)
        sensor = self.sensors[int(rng.integers(len(self.sensors)))]
        # Frames are larger than the network's input by different factors: each is resampled as it is encoded.
        long = int(size * rng.uniform(1, 1.6)) // 4 * 4
        short = int(long * rng.choice((0.75, 1.0))) // 4 * 4
        height, width = (short, long) if rng.random() < 0.7 else (long, short)
        make = self._collage if rng.random() < 0.5 else self._view
        return pair(make(rng, height, width), sensor, random_capture(rng), rng, size)

    def _collage(self, rng: np.random.Generator, height: int, width: int) -> View:
        image, objects = np.empty((height, width, 3), np.uint8), []
        for top in (0, height // 2):
            for left in (0, width // 2):
                part = self._view(rng, height // 2, width // 2)
                image[top : top + height // 2, left : left + width // 2] = part.image
                objects.append(part.placed((1, 1), (top, left)).objects)
        return View(image, np.concatenate(objects))

    def _view(self, rng: np.random.Generator, height: int, width: int) -> View:
        """A random part of a random image, its proportions kept, mirrored every second time."""
        whole = self.images[int(rng.integers(len(self.images)))]
        share = rng.uniform(0.5, 1)
        scale = max(height / whole.image.shape[0], width / whole.image.shape[1]) / share
        rows, columns = height / scale, width / scale
        top, left = rng.uniform(0, whole.image.shape[0] - rows), rng.uniform(0, whole.image.shape[1] - columns)
        box = (left, top, left + columns, top + rows)
        part = Image.fromarray(whole.image).resize((width, height), Image.Resampling.BILINEAR, box)
        objects = cut(whole.placed((scale, scale), (-top * scale, -left * scale)).objects, height, width)
        if rng.random() < 0.5:
            objects[:, [1, 3]] = width - objects[:, [3, 1]]
            return View(np.ascontiguousarray(np.asarray(part)[:, ::-1]), objects)
        return View(np.asarray(part), objects)


def cut(objects: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Objects cut off at the borders of a view; without those of which less than a quarter is left.

    Args:
        objects: of a `View`.
        height: of the view in pixels.
        width: of the view in pixels.
    """
    inside = objects.copy()
    inside[:, 1:] = np.clip(objects[:, 1:], 0, (width, height, width, height))
    area = (inside[:, 3] - inside[:, 1]) * (inside[:, 4] - inside[:, 2])
    whole = (objects[:, 3] - objects[:, 1]) * (objects[:, 4] - objects[:, 2])
    return inside[area > whole / 4]


def random_capture(rng: np.random.Generator) -> Capture:
    """Light of 2.5 to 8.5 kK (even in mired), exposure 1/8 to 1, analogue gain 1 to 16; bright and clean more often.

    Args:
        rng: that chooses.
    """
    return Capture(
        colour_temperature_k=float(1e6 / rng.uniform(1e6 / 8500, 1e6 / 2500)),
        exposure=float(2 ** (-3 * rng.random() ** 2)),
        analogue_gain=float(2 ** (4 * rng.random() ** 1.5)),
    )
