"""Training pairs: photographs through the forward sensor model and through the run-time encoding."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_isp.calibration.forward import SensorModel
from edge_isp.calibration.light import srgb_decode, srgb_encode
from edge_isp.calibration.profile import SensorProfile
from edge_isp.kernels.tables import encoding_table

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")

# How the network's input is quantised: all of int8 for 0 to 1 (see the model card).
INPUT_CURVE = "sqrt"
INPUT_SCALE = 1 / 255
INPUT_ZERO_POINT = -128


@dataclass(frozen=True, slots=True)
class Capture:
    """The circumstances of one simulated exposure.

    Attributes:
        saturation: factor on the photograph's colours, in linear light. Above 1 it makes colours that sensors
            see and photographs cannot hold (petals, LEDs): the target clips them, the RAW does not.
    """

    colour_temperature_k: float
    exposure: float
    analogue_gain: float
    saturation: float = 1.0


def find_photos(folder: Path, *, exclude: tuple[str, ...] = ()) -> list[Path]:
    """Photographs of a folder by name, without those whose stem is in `exclude`.

    Raises:
        FileNotFoundError: the folder holds none.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
    found = [path for path in paths if path.stem not in exclude]
    if not found:
        raise FileNotFoundError(f"{folder}: no photographs ({', '.join(PHOTO_SUFFIXES)}) in it")
    return found


def load_photo(path: Path, reduce: int) -> NDArray[np.uint8]:
    """A photograph, averaged over reduce x reduce pixels (which removes JPEG artefacts), even sizes."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").reduce(reduce) if reduce > 1 else image.convert("RGB"))
    return pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]


def encode_codes(
    codes: NDArray[np.uint16], profile: SensorProfile, gains: tuple[float, float, float]
) -> NDArray[np.float32]:
    """RGGB codes (height, width) to the network's dequantised input (4, height/2, width/2).

    Goes through the tables that the run time's `kernels.encode` uses, so training sees their rounding.
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
    values = ((table.astype(np.float32) - INPUT_ZERO_POINT) * INPUT_SCALE).astype(np.float32)
    planes = (codes[0::2, 0::2], codes[0::2, 1::2], codes[1::2, 0::2], codes[1::2, 1::2])
    return np.stack([values[i][plane] for i, plane in enumerate(planes)])


def simulate(
    photo: NDArray[np.uint8], sensor: SensorModel, capture: Capture, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An sRGB photograph (height, width, 3) to input (4, height/2, width/2) and target (3, height, width).

    The target is the photograph at the RAW's own exposure.
    """
    linear = srgb_decode(photo.astype(np.float32) / np.float32(255)).astype(np.float32)
    grey = linear.mean(2, keepdims=True)
    linear = grey + np.float32(capture.saturation) * (linear - grey)
    codes = sensor.codes(
        linear,
        rng,
        colour_temperature_k=capture.colour_temperature_k,
        exposure=capture.exposure,
        analogue_gain=capture.analogue_gain,
        cfa="RGGB",
    )
    gains = sensor.profile.normalised_gains(capture.colour_temperature_k)
    target = srgb_encode(linear * np.float32(capture.exposure)).astype(np.float32)
    return encode_codes(codes, sensor.profile, gains), target.transpose(2, 0, 1)


class TrainingPairs:
    """Random crops of photographs, each under random light, exposure and gain.

    Batch `i` depends on nothing but the seed and `i`: training resumes exactly. Batches are made in a
    background thread.

    Args:
        photos: uint8 (height, width, 3).
        crop: side of the crops in pixels, even.
    """

    def __init__(
        self, photos: list[NDArray[np.uint8]], sensor: SensorModel, *, crop: int, batch: int, seed: int
    ) -> None:
        self.photos = [p for p in photos if min(p.shape[:2]) > crop]
        if not self.photos:
            raise ValueError(f"no photograph is larger than a crop of {crop} pixels")
        self.sensor, self.crop, self.batch, self.seed = sensor, crop, batch, seed
        weights = np.sqrt([p.shape[0] * p.shape[1] for p in self.photos])
        self._chances = weights / weights.sum()

    def make(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Batch `index`: inputs (batch, 4, crop/2, crop/2), targets (batch, 3, crop, crop)."""
        rng = np.random.default_rng([self.seed, index])
        pairs = [simulate(self._crop(rng), self.sensor, random_capture(rng), rng) for _ in range(self.batch)]
        return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])

    def batches(self, first: int, last: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Batches `first` to `last` (exclusive), two of them made ahead."""
        ahead = 2
        with ThreadPoolExecutor(1) as pool:
            pending = [pool.submit(self.make, i) for i in range(first, min(first + ahead, last))]
            for index in range(first, last):
                if index + ahead < last:
                    pending.append(pool.submit(self.make, index + ahead))
                yield pending.pop(0).result()

    def _crop(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        photo = self.photos[rng.choice(len(self.photos), p=self._chances)]
        candidates = [self._window(photo, rng) for _ in range(2)]
        # Every second crop is the more detailed of two: much of a photograph is sky.
        if rng.random() < 0.5:
            candidates.sort(key=lambda c: float(np.abs(np.diff(c[..., 1].astype(np.int16), axis=1)).mean()))
        crop = np.rot90(candidates[-1], int(rng.integers(4)))
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        if rng.random() < 0.2:  # colours that photographs seldom have
            crop = crop[..., rng.permutation(3)]
        return np.ascontiguousarray(crop)

    def _window(self, photo: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        y = rng.integers(photo.shape[0] - self.crop + 1)
        x = rng.integers(photo.shape[1] - self.crop + 1)
        return photo[y : y + self.crop, x : x + self.crop]


def random_capture(rng: np.random.Generator) -> Capture:
    """Light of 2.5 to 8.5 kK (even in mired), exposure 1/4 to 1.2, analogue gain 1 to 16 (low ones more often);
    every third time with colours up to 2.5 times as saturated as the photograph's."""
    return Capture(
        colour_temperature_k=float(1e6 / rng.uniform(1e6 / 8500, 1e6 / 2500)),
        exposure=float(2 ** rng.uniform(-2, 0.26)),
        analogue_gain=float(2 ** (4 * rng.random() ** 1.5)),
        saturation=float(rng.uniform(1, 2.5)) if rng.random() < 1 / 3 else 1.0,
    )
