"""The simulation of `training.simulation.samples` on the device that trains: photographs, crops, sensors and encoding.

It needs only PyTorch, NumPy and Pillow; what it knows of sensors is in a file (see `sensor_tables`). Batches depend on
their number alone. Lens shading is rounded once, not in the kernels' fixed point: within one step of the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from edge_isp.calibration.light import srgb_decode
from edge_isp.errors import DatasetError
from edge_isp.files import files_of
from edge_isp.training.isp.colour import srgb
from edge_isp.training.simulation.conventions import NOISE_FACTOR, PHOTO_SUFFIXES, REDUCTIONS
from edge_isp.training.simulation.patterns import PATTERN_SHARE, pattern

# Patterns are drawn once, and cropped like photographs.
_PATTERNS, _PATTERN_SIDE = 256, 256

_HIGHEST = 255


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """As `training.simulation.samples.Sample`, on the device, with a batch.

    Attributes:
        inputs: (batch, 8, height/2, width/2).
        target: (batch, 3, height, width).
        matrix: (batch, 3, 3).
    """

    inputs: Tensor
    target: Tensor
    matrix: Tensor


@dataclass(frozen=True, slots=True)
class Captures:
    """The circumstances of a batch of exposures; see `training.simulation.samples.Capture`.

    Attributes:
        sensor: number of each one's sensor in the tables.
        light: number of each one's light in the tables.
        exposure: factor on the light.
        analogue_gain: of the sensor.
        lens_gains: (batch, 3).
        defects: share of pixels that are stuck.
        noise_error: factor by which the noise that the network is given is off.
    """

    sensor: Tensor
    light: Tensor
    exposure: Tensor
    analogue_gain: Tensor
    lens_gains: Tensor
    defects: Tensor
    noise_error: Tensor


@dataclass(frozen=True, slots=True)
class Tables:
    """See `sensor_tables.sensor_tables`; on the device."""

    camera: Tensor
    matrix: Tensor
    gains: Tensor
    lens: Tensor
    noise: Tensor
    levels: Tensor

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float32]], device: torch.device) -> Tables:
        """Tables on a device.

        Args:
            arrays: by name.
            device: to compute on.
        """
        return cls(**{field.name: torch.from_numpy(arrays[field.name]).to(device) for field in fields(cls)})


def read_tables(path: Path, device: torch.device) -> tuple[Tables, dict[str, DeviceSample]]:
    """What `sensor_tables.write_tables` wrote: the tables, and the samples to validate with by group.

    Args:
        path: of the file.
        device: to compute on.

    Raises:
        DatasetError: the file cannot be read, or is another.
    """
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        groups = dict.fromkeys(name.split("/")[1] for name in arrays if name.startswith("validation/"))
        samples = {
            group: DeviceSample(
                *(torch.from_numpy(arrays[f"validation/{group}/{part}"]).to(device) for part in _parts())
            )
            for group in groups
        }
        return Tables.of(arrays, device), samples
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{path}: expected tables that 'scripts/train-on-gpu tables' wrote: {error}") from error


def _parts() -> tuple[str, ...]:
    return tuple(field.name for field in fields(DeviceSample))


class DevicePairs:
    """As `training.simulation.samples.TrainingPairs`, with everything on the device.

    Args:
        photos: uint8 (height, width, 3); those that are not larger than a crop are left out.
        tables: of the sensors that the photographs are seen through.
        crop: side of the crops in pixels, even; see also `architectures.check_crop`.
        batch: crops per batch.
        seed: of everything random.

    Raises:
        DatasetError: no photograph is larger than a crop.
    """

    def __init__(
        self, photos: Sequence[NDArray[np.uint8]], tables: Tables, *, crop: int, batch: int, seed: int
    ) -> None:
        photos = [photo for photo in photos if min(photo.shape[:2]) > crop]
        if not photos:
            raise DatasetError(f"no photograph is larger than a crop of {crop} pixels")
        self.tables, self.crop, self.batch, self.seed = tables, crop, batch, seed
        device = self.device = tables.camera.device
        rng = np.random.default_rng(seed)
        side = max(_PATTERN_SIDE, 2 * crop)
        drawn = [pattern(rng, side) for _ in range(_PATTERNS if side == _PATTERN_SIDE else 16)]
        sizes = np.array([photo.shape[:2] for photo in (*photos, *drawn)])
        areas = sizes.prod(1)
        chances = np.sqrt(areas[: len(photos)])
        chances = np.concatenate(
            [(1 - PATTERN_SHARE) * chances / chances.sum(), np.full(len(drawn), PATTERN_SHARE / len(drawn))]
        )
        self._pixels = torch.from_numpy(np.concatenate([p.reshape(-1, 3) for p in (*photos, *drawn)])).to(device)
        self._heights, self._widths = (torch.from_numpy(sizes[:, axis].astype(np.int64)).to(device) for axis in (0, 1))
        self._begins = torch.from_numpy(np.concatenate([[0], np.cumsum(areas)[:-1]]).astype(np.int64)).to(device)
        self._chances = torch.from_numpy(np.cumsum(chances).astype(np.float32)).to(device)
        self._linear = torch.from_numpy(srgb_decode(np.arange(256) / 255).astype(np.float32)).to(device)

    @torch.no_grad()
    def make(self, index: int) -> DeviceSample:
        """Batch `index`.

        Args:
            index: number of the batch.
        """
        seed = int(np.random.SeedSequence([self.seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        generator = torch.Generator(self.device).manual_seed(seed)
        linear = self._linear[self._crops(generator).int()]
        saturation = 1 + 1.5 * self._uniform(generator) * (self._uniform(generator) < 1 / 3)
        grey = linear.mean(3, keepdim=True)
        linear = grey + saturation.view(-1, 1, 1, 1) * (linear - grey)
        return exposed(linear, self.tables, self._captures(generator), generator)

    def batches(self, first: int, last: int) -> Iterator[DeviceSample]:
        """Batches `first` to `last` (exclusive).

        Args:
            first: number of the first batch.
            last: number after that of the last batch.
        """
        return (self.make(index) for index in range(first, last))

    def _uniform(self, generator: torch.Generator, *shape: int) -> Tensor:
        return torch.rand(shape or (self.batch,), generator=generator, device=self.device)

    def _crops(self, generator: torch.Generator) -> Tensor:
        """uint8 (batch, crop, crop, 3): every second one the more detailed of two; turned, some with other colours."""
        count, crop = self.batch, self.crop
        photo = torch.searchsorted(self._chances, self._uniform(generator)).clamp_max(len(self._heights) - 1)
        begin, width = self._begins[photo], self._widths[photo]
        steps = torch.arange(crop, device=self.device)
        offsets = [
            [(self._uniform(generator) * (side[photo] - crop + 1)).long() for side in (self._heights, self._widths)]
            for _ in range(2)
        ]
        detail = []
        for top, left in offsets:
            places = (begin + top * width + left).view(-1, 1, 1) + steps[::4].view(1, -1, 1) * width.view(-1, 1, 1)
            detail.append(self._pixels[places + steps, 1].float().diff(dim=2).abs().mean((1, 2)))
        second = (self._uniform(generator) < 0.5) | (detail[1] > detail[0])
        top, left = (torch.where(second, b, a) for a, b in zip(*offsets, strict=True))
        down, across = steps.view(1, -1, 1).expand(count, crop, crop), steps.view(1, 1, -1).expand(count, crop, crop)
        mirrored_down, mirrored_across, turned = self._uniform(generator, 3, count, 1, 1) < 0.5
        down, across = torch.where(turned, across, down), torch.where(turned, down, across)
        down = torch.where(mirrored_down, crop - 1 - down, down)
        across = torch.where(mirrored_across, crop - 1 - across, across)
        rows = top.view(-1, 1, 1) + down
        rgb = self._pixels[begin.view(-1, 1, 1) + rows * width.view(-1, 1, 1) + left.view(-1, 1, 1) + across]
        order = self._uniform(generator, count, 3).argsort(1)
        usual = torch.arange(3, device=self.device).expand(count, 3)
        order = torch.where(self._uniform(generator, count, 1) < 0.2, order, usual)
        return rgb.gather(3, order.view(count, 1, 1, 3).expand_as(rgb))

    def _captures(self, generator: torch.Generator) -> Captures:
        """See `training.simulation.samples.random_capture`."""
        sensors, lights, places = self.tables.lens.shape[:3]
        sensor, light, place = (
            (self._uniform(generator) * n).long().clamp_max(n - 1) for n in (sensors, lights, places)
        )
        shaded = self._uniform(generator, self.batch, 1) < 1 / 2
        lens = self.tables.lens[sensor, light, place]
        kind, share = self._uniform(generator), self._uniform(generator)
        stops = torch.where(
            kind < 1 / 16, -6 + 4 * share, torch.where(kind < 2 / 16, 0.26 + 2.74 * share, -2 + 2.26 * share)
        )
        defects = 10 ** (2 * self._uniform(generator) - 5) * (self._uniform(generator) < 1 / 4)
        error = torch.randn(self.batch, generator=generator, device=self.device)
        return Captures(
            sensor=sensor,
            light=light,
            exposure=2**stops,
            analogue_gain=2 ** (4 * self._uniform(generator) ** 1.5),
            lens_gains=torch.where(shaded, lens, torch.ones_like(lens)),
            defects=defects,
            noise_error=2 ** (0.25 * error),
        )


def exposed(linear: Tensor, tables: Tables, captures: Captures, generator: torch.Generator) -> DeviceSample:
    """Scenes as sensors see them, encoded for a network; the formulae are `training.simulation.samples.simulate`'s.

    Args:
        linear: linear sRGB (batch, height, width, 3); even sizes.
        tables: of the sensors.
        captures: the circumstances.
        generator: of noise and defects.
    """
    count = len(linear)

    def each(value: Tensor) -> Tensor:
        return value.reshape(count, -1, 1, 1)

    camera = torch.einsum("bhwc,bdc->bdhw", linear, tables.camera[captures.sensor, captures.light])
    camera = camera.mul(each(captures.exposure)).clamp_min(0) / each(captures.lens_gains)
    light = torch.stack(
        [camera[:, 0, 0::2, 0::2], camera[:, 1, 0::2, 1::2], camera[:, 1, 1::2, 0::2], camera[:, 2, 1::2, 1::2]], 1
    )
    light = _with_defects(light, captures, generator)
    shot, before, after = tables.noise[captures.sensor].unbind(1)
    gain = captures.analogue_gain
    electron = each(shot * gain)
    light = torch.poisson(light / electron, generator=generator) * electron
    noise = torch.randn(light.shape, generator=generator, device=light.device)
    light = light + noise * each(torch.sqrt(before * gain**2 + after))
    levels = tables.levels[captures.sensor]
    black, white = each(levels[:, :4]), each(levels[:, 4])
    codes = torch.minimum(torch.round(black + light * (white - black)).clamp_min(0), white.floor())
    balance = tables.gains[captures.sensor, captures.light][:, [0, 1, 1, 2]]
    gains = balance * captures.lens_gains[:, [0, 1, 1, 2]]
    planes = _rounded(torch.sqrt(((codes - black) * each(gains) / (white - black)).clamp(0, 1)))
    # Lens shading is a part of the gains that noise is amplified with.
    deviation = torch.sqrt(gains * (shot * captures.noise_error**2 * gain).view(-1, 1)) / 2
    told = _rounded((deviation * NOISE_FACTOR).clamp(0, 1))
    target = srgb(linear * each(captures.exposure)).permute(0, 3, 1, 2).contiguous()
    inputs = torch.cat([planes, each(told).expand_as(planes)], 1)
    return DeviceSample(inputs, target, tables.matrix[captures.sensor, captures.light])


def _with_defects(light: Tensor, captures: Captures, generator: torch.Generator) -> Tensor:
    """Stuck pixels: dark, bright, or of one value between."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=light.device)

    stuck = uniform(*light.shape) < captures.defects.view(-1, 1, 1, 1)
    kind = (3 * uniform(*light.shape)).long()
    value = torch.where(kind == 2, uniform(len(light), 1, 1, 1), kind.float())
    return torch.where(stuck, value, light)


def _rounded(values: Tensor) -> Tensor:
    return torch.round(values * _HIGHEST) / _HIGHEST


def read_photos(folder: Path, *, exclude: tuple[str, ...] = ()) -> list[NDArray[np.uint8]]:
    """Photographs of a folder at a half and at a quarter of their size, as `training.simulation.samples` has them.

    Args:
        folder: of JPEG and PNG files.
        exclude: stems of photographs that are left out.

    Raises:
        DatasetError: the folder holds none, or one cannot be read.
    """
    paths = [path for path in files_of(folder, PHOTO_SUFFIXES) if path.stem not in exclude]
    if not paths:
        raise DatasetError(f"{folder}: no photographs ({', '.join(PHOTO_SUFFIXES)}) in it")
    photos = []
    for path in paths:
        try:
            with Image.open(path) as opened:
                rgb = opened.convert("RGB")
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error}") from error
        photos += [np.asarray(rgb.reduce(factor)) for factor in REDUCTIONS]
    return photos
