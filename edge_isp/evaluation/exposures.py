"""Simulated exposures of test images: the RAW that all methods see alike."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_isp.calibration.light import srgb_decode
from edge_isp.calibration.simulation import SensorModel
from edge_isp.corrections import Origins
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.training.simulation.samples import Capture, load_photo

# Light at which exposures are made where nothing else is asked for.
DAYLIGHT_K = 5700.0


@dataclass(frozen=True, slots=True)
class SimulatedExposure:
    """A simulated exposure of a test image.

    Attributes:
        photo: the image, uint8 (height, width, 3), even sizes: what pictures of the exposure are compared with.
        sensor: that it was exposed on.
        capture: under which circumstances.
        codes: RAW, uint16 (height, width), in the sensor's own colour order.
        enlarged: by this factor the photo is larger than the test image.
    """

    photo: NDArray[np.uint8]
    sensor: SensorModel
    capture: Capture
    codes: NDArray[np.uint16]
    enlarged: float = 1.0

    def frame(self) -> RawFrame:
        """The exposure as the sensor's camera would deliver it."""
        profile, (height, width) = self.sensor.profile, self.codes.shape
        layout = RawFormat(width, height, Cfa(profile.cfa), profile.bit_depth, Packing.U16)
        return RawFrame(
            data=pack(self.codes, packing=layout.packing, bit_depth=layout.bit_depth),
            format=layout,
            source="simulated",
            sequence=0,
            timestamp_ns=0,
            black_level=profile.black_level,
            white_level=profile.white_level,
            sensor=profile.name,
            analogue_gain=self.capture.analogue_gain,
            colour_gains=profile.colour_gains(self.capture.colour_temperature_k),
            colour_temperature_k=self.capture.colour_temperature_k,
            lens_shading=False,  # an ideal lens
            origins=Origins("simulation"),
        )


def expose_image(path: Path, sensor: SensorModel, capture: Capture, *, smallest_side: int = 0) -> SimulatedExposure:
    """Exposes a sensor to an image; the noise depends on the image's stem and nothing else.

    Args:
        path: of the image.
        sensor: that is exposed.
        capture: the circumstances.
        smallest_side: an image whose longer side is shorter than this many pixels is enlarged to it.

    Raises:
        DatasetError: the image cannot be read.
    """
    photo = load_photo(path)
    factor = max(1.0, smallest_side / max(photo.shape[:2]))
    if factor > 1:
        height, width = (round(n * factor / 2) * 2 for n in photo.shape[:2])
        photo = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))
    return expose(photo, path.stem, sensor, capture, enlarged=factor)


def expose(
    photo: NDArray[np.uint8], stem: str, sensor: SensorModel, capture: Capture, *, enlarged: float = 1.0
) -> SimulatedExposure:
    """Exposes a sensor to an image that is loaded.

    Args:
        photo: uint8 (height, width, 3), even sizes.
        stem: of the image's file: the noise depends on it.
        sensor: that is exposed.
        capture: the circumstances.
        enlarged: by this factor the photo is larger than the test image.
    """
    linear = srgb_decode(photo.astype(np.float32) / np.float32(255)).astype(np.float32)
    codes = sensor.codes(
        linear,
        np.random.default_rng([1000, zlib.crc32(stem.encode())]),
        colour_temperature_k=capture.colour_temperature_k,
        exposure=capture.exposure,
        analogue_gain=capture.analogue_gain,
    )
    return SimulatedExposure(photo, sensor, capture, codes, enlarged)
