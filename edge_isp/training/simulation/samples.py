"""Photographs through the forward sensor model and the runtime's encoding: what networks learn from.

Does without PyTorch: evaluation reads photographs and simulates exposures with it as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import noise_deviation, srgb_decode, srgb_encode
from edge_isp.calibration.profile import ColourMatrix, SensorProfile, load_profile
from edge_isp.calibration.simulation import SensorModel, mosaic
from edge_isp.cameras.photo import decode, upright_rgb
from edge_isp.errors import DatasetError
from edge_isp.files import files_of
from edge_isp.kernels.reference import shade
from edge_isp.kernels.tables import Factors, encoding_table, lens_factors, step_table, steps
from edge_isp.training.simulation.conventions import NOISE_FACTOR, PHOTO_SUFFIXES, REDUCTIONS
from edge_isp.training.simulation.patterns import PATTERN_SHARE, pattern

# How the network's input is quantised: all of int8 for 0 to 1 (see the model card).
INPUT_CURVE = "sqrt"
INPUT_SCALE = 1 / 255
INPUT_ZERO_POINT = -128

# Whose sensors the generic weights are trained through.
GENERIC_PROFILES = ("imx219", "imx477", "imx708", "ov5647", "imx500", "imx296", "imx462")

# The lens gains, red, green and blue, of an ideal lens.
NO_SHADING = (1.0, 1.0, 1.0)

FloatArray = NDArray[np.float32]

# Of the 256 values of a photograph.
LINEAR_LIGHT = srgb_decode(np.arange(256, dtype=np.float32) / np.float32(255)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Capture:
    """The circumstances of one simulated exposure.

    Attributes:
        colour_temperature_k: of the light, in kelvin.
        exposure: factor on the photograph's light; at 1 its white just reaches white in the RAW.
        analogue_gain: of the sensor.
        saturation: factor on the photograph's colours, in linear light. Above 1 it makes colours that sensors
            see and photographs cannot hold (petals, LEDs): the target clips them, the RAW does not.
        lens_gains: red, green, blue: what undoes the lens shading where the crop lies.
        defects: share of pixels that are stuck, dark, bright or between.
        noise_error: factor by which the noise that the network is given is off.
    """

    colour_temperature_k: float
    exposure: float
    analogue_gain: float
    saturation: float = 1.0
    lens_gains: tuple[float, float, float] = NO_SHADING
    defects: float = 0.0
    noise_error: float = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One simulated exposure, or several of the same size (then with the batch before the shapes given here).

    Attributes:
        inputs: (8, height/2, width/2): the planes R, Gr, Gb, B, 0 to 1, dequantised; then the noise of each.
        target: (3, height, width): the sRGB picture at the RAW's own exposure, 0 to 1.
        matrix: (3, 3): white-balanced camera colour to linear sRGB.
    """

    inputs: FloatArray
    target: FloatArray
    matrix: FloatArray


def find_photos(folder: Path, *, exclude: tuple[str, ...] = ()) -> list[Path]:
    """Photographs of a folder, sorted by name.

    Args:
        folder: of JPEG and PNG files.
        exclude: stems of photographs that are left out.

    Raises:
        DatasetError: the folder holds none.
    """
    paths = files_of(folder, PHOTO_SUFFIXES)
    found = [path for path in paths if path.stem not in exclude]
    if not found:
        raise DatasetError(f"{folder}: no photographs ({', '.join(PHOTO_SUFFIXES)}) in it")
    return found


def load_photo(path: Path, reduce: int = 1) -> NDArray[np.uint8]:
    """A photograph as sRGB, uint8 (height, width, 3), upright, even sizes.

    Args:
        path: of the file.
        reduce: it is averaged over this many times this many pixels, which removes JPEG artefacts.

    Raises:
        DatasetError: the file is no photograph that can be read.
    """
    rgb = decode(path, DatasetError, upright_rgb)
    pixels = np.asarray(rgb.reduce(reduce) if reduce > 1 else rgb)
    return pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]


def load_training_photos(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """Photographs at a half and at a quarter of their size: both remove JPEG artefacts.

    Args:
        paths: of the files.

    Raises:
        DatasetError: a file is no photograph that can be read.
    """
    return [load_photo(path, reduce) for path in paths for reduce in REDUCTIONS]


def encode_codes(
    codes: NDArray[np.uint16],
    profile: SensorProfile,
    gains: tuple[float, float, float],
    lens_gains: tuple[float, float, float] = NO_SHADING,
) -> FloatArray:
    """RGGB codes (height, width) to the network's dequantised planes R, Gr, Gb, B (4, height/2, width/2).

    Goes through the tables and the arithmetic that the runtime's `kernels.encode` and `kernels.shaded` use, so
    training sees their rounding.

    Args:
        codes: of the sensor.
        profile: of the sensor.
        gains: of the white balance: red, green, blue.
        lens_gains: see `Capture`.
    """
    arguments: dict[str, Any] = {
        "bit_depth": profile.bit_depth,
        "black_level": profile.black_level,
        "white_level": profile.white_level,
        "gains": gains,
        "curve": INPUT_CURVE,
        "scale": INPUT_SCALE,
        "zero_point": INPUT_ZERO_POINT,
    }
    if lens_gains == NO_SHADING:
        table = encoding_table(**arguments)
    else:
        table = shade(step_table(**arguments), _factors(lens_gains), INPUT_ZERO_POINT)
    values = ((table.astype(np.float32) - INPUT_ZERO_POINT) * INPUT_SCALE).astype(np.float32)
    planes = (codes[0::2, 0::2], codes[0::2, 1::2], codes[1::2, 0::2], codes[1::2, 1::2])
    return np.stack([values[i][plane] for i, plane in enumerate(planes)])


def noise_planes(sensor: SensorModel, capture: Capture, gains: tuple[float, float, float]) -> FloatArray:
    """The noise of the planes R, Gr, Gb, B as the network is given it, (4,), rounded as its input is.

    Args:
        sensor: its profile states the noise.
        capture: the circumstances.
        gains: of the white balance: red, green, blue.
    """
    assert sensor.profile.noise is not None
    red, green, blue = gains
    shot = sensor.profile.noise.shot * capture.noise_error**2
    deviation = noise_deviation(shot, capture.analogue_gain, [red, green, green, blue])
    values = np.clip(deviation * NOISE_FACTOR, 0, 1) / INPUT_SCALE
    if capture.lens_gains == NO_SHADING:
        return (np.rint(values) * INPUT_SCALE).astype(np.float32)
    codes = shade(steps(values, INPUT_ZERO_POINT)[:, None], _factors(capture.lens_gains), INPUT_ZERO_POINT)[:, 0]
    return ((codes.astype(np.float32) - INPUT_ZERO_POINT) * INPUT_SCALE).astype(np.float32)


def _factors(lens_gains: tuple[float, float, float]) -> Factors:
    """Lens shading of the planes R, Gr, Gb, B, (4, 1)."""
    red, green, blue = lens_gains
    return lens_factors(np.array([[red], [green], [green], [blue]]), INPUT_CURVE)


def simulate(photo: NDArray[np.uint8], sensor: SensorModel, capture: Capture, rng: np.random.Generator) -> Sample:
    """An sRGB photograph (height, width, 3) as the sensor would see it, encoded for the network.

    Args:
        photo: uint8, even sizes.
        sensor: that sees it.
        capture: the circumstances.
        rng: of noise and defects.
    """
    linear = LINEAR_LIGHT[photo]
    if capture.saturation != 1:
        grey = linear.mean(2, keepdims=True)
        linear = grey + np.float32(capture.saturation) * (linear - grey)
    temperature = capture.colour_temperature_k
    camera = sensor.camera_rgb(linear, colour_temperature_k=temperature, exposure=capture.exposure)
    camera /= np.array(capture.lens_gains, np.float32)
    light = mosaic(camera, "RGGB")
    if capture.defects:
        stuck = rng.random(light.shape, np.float32) < capture.defects
        light[stuck] = rng.choice((0.0, 1.0, rng.random()), int(stuck.sum()))
    codes = sensor.digitise(light, rng, analogue_gain=capture.analogue_gain, cfa="RGGB")
    gains = sensor.profile.normalised_gains(temperature)
    planes = encode_codes(codes, sensor.profile, gains, capture.lens_gains)
    noise = np.broadcast_to(noise_planes(sensor, capture, gains)[:, None, None], planes.shape)
    target = srgb_encode(linear * np.float32(capture.exposure)).astype(np.float32).transpose(2, 0, 1)
    matrix = np.asarray(sensor.profile.colour_matrix(temperature), np.float32)
    return Sample(np.concatenate([planes, noise]), target, matrix)


def stack(samples: list[Sample]) -> Sample:
    """Samples of one size as a batch.

    Args:
        samples: without a batch dimension.
    """
    return Sample(
        np.stack([s.inputs for s in samples]),
        np.stack([s.target for s in samples]),
        np.stack([s.matrix for s in samples]),
    )


def sensors_of_generic_weights(seed: int) -> list[SensorModel]:
    """The sensors that generic weights are trained through.

    Args:
        seed: of the mixture.
    """
    return generic_sensors([load_profile(name) for name in GENERIC_PROFILES], seed=seed)


def generic_sensors(profiles: list[SensorProfile], *, seed: int, count: int = 48) -> list[SensorModel]:
    """Sensors that could exist: the white balance of one, the colours of two mixed, noise from a tenth to the whole of
    the profiles' (cameras with large pixels have less).

    Args:
        profiles: of sensors that there are, with noise.
        seed: of the mixture.
        count: how many to make.
    """
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        own, other = (profiles[i] for i in rng.choice(len(profiles), 2, replace=False))
        share = rng.random()
        matrices = tuple(
            replace(m, matrix=tuple((share * _matrix(own, m) + (1 - share) * _matrix(other, m)).ravel().tolist()))
            for m in own.colour_matrices
        )
        assert own.noise is not None
        noise = replace(own.noise, shot=own.noise.shot * 10 ** -rng.choice((0.0, 0.0, rng.random())))
        made.append(SensorModel(replace(own, colour_matrices=matrices, noise=noise)))
    return made


def _matrix(profile: SensorProfile, like: ColourMatrix) -> NDArray[np.float64]:
    return np.asarray(profile.colour_matrix(like.colour_temperature_k), np.float64)


class TrainingPairs:
    """Random crops of photographs, each under random light, exposure and gain, seen by a random one of some sensors.

    Batch `i` depends on nothing but the seed and `i`: training resumes exactly. Batches are made in background threads.

    Args:
        photos: uint8 (height, width, 3); those that are not larger than a crop are left out.
        sensors: that the photographs are seen through.
        crop: side of the crops in pixels, even; see also `isp.architectures.check_crop`.
        batch: crops per batch.
        seed: of everything random.
        defects: whether some crops have defective pixels.

    Raises:
        DatasetError: no photograph is larger than a crop.
    """

    def __init__(
        self,
        photos: list[NDArray[np.uint8]],
        sensors: Sequence[SensorModel],
        *,
        crop: int,
        batch: int,
        seed: int,
        defects: bool = True,
    ) -> None:
        self.photos = [p for p in photos if min(p.shape[:2]) > crop]
        if not self.photos:
            raise DatasetError(f"no photograph is larger than a crop of {crop} pixels")
        self.sensors, self.crop, self.batch, self.seed, self.defects = sensors, crop, batch, seed, defects
        weights = np.sqrt([p.shape[0] * p.shape[1] for p in self.photos])
        self._chances = weights / weights.sum()

    def make(self, index: int) -> Sample:
        """Batch `index`.

        Args:
            index: number of the batch.
        """
        rng = np.random.default_rng([self.seed, index])
        return stack([self._sample(rng) for _ in range(self.batch)])

    def batches(self, first: int, last: int) -> Iterator[Sample]:
        """Batches `first` to `last` (exclusive), two of them made ahead.

        Args:
            first: number of the first batch.
            last: number after that of the last batch.
        """
        ahead = 2
        with ThreadPoolExecutor(ahead) as pool:
            pending = [pool.submit(self.make, i) for i in range(first, min(first + ahead, last))]
            for index in range(first, last):
                if index + ahead < last:
                    pending.append(pool.submit(self.make, index + ahead))
                yield pending.pop(0).result()

    def _sample(self, rng: np.random.Generator) -> Sample:
        sensor = self.sensors[int(rng.integers(len(self.sensors)))]
        crop, capture = self._crop(rng), random_capture(rng, sensor.profile)
        return simulate(crop, sensor, capture if self.defects else replace(capture, defects=0.0), rng)

    def _crop(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        if rng.random() < PATTERN_SHARE:
            return pattern(rng, self.crop)
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


def random_capture(rng: np.random.Generator, profile: SensorProfile) -> Capture:
    """Light of 2.5 to 8.5 kK (even in mired), exposure 1/4 to 1.2, seldom down to 1/64 or up to 8, analogue gain 1 to
    16 (low ones more often); every third time with colours up to 2.5 times as saturated as the photograph's; every
    second time at a random place of the lens, every fourth time with defective pixels; the noise known to a fifth.

    Args:
        rng: that chooses.
        profile: of the sensor, for its lens shading.
    """
    temperature = float(1e6 / rng.uniform(1e6 / 8500, 1e6 / 2500))
    lens_gains = NO_SHADING
    if profile.shading is not None and rng.random() < 1 / 2:
        grid = profile.shading.gains(temperature)
        red, green, blue = grid[:, rng.integers(grid.shape[1]), rng.integers(grid.shape[2])]
        lens_gains = (float(red), float(green), float(blue))
    return Capture(
        colour_temperature_k=temperature,
        exposure=_exposure(rng),
        analogue_gain=float(2 ** (4 * rng.random() ** 1.5)),
        saturation=float(rng.uniform(1, 2.5)) if rng.random() < 1 / 3 else 1.0,
        lens_gains=lens_gains,
        defects=float(10 ** rng.uniform(-5, -3)) if rng.random() < 1 / 4 else 0.0,
        noise_error=float(2 ** rng.normal(0, 0.25)),
    )


def _exposure(rng: np.random.Generator) -> float:
    """Mostly 1/4 to 1.2; every sixteenth time darker, and every sixteenth time with edges into clipped white."""
    kind = rng.random()
    if kind < 1 / 16:
        return float(2 ** rng.uniform(-6, -2))
    if kind < 2 / 16:
        return float(2 ** rng.uniform(0.26, 3))
    return float(2 ** rng.uniform(-2, 0.26))
