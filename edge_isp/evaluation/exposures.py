"""Picture quality of methods from RAW to a picture, on simulated RAW of test images; every figure is kept in a file.

A way is whatever makes a picture of a simulated exposure: a model on its engine, a network in PyTorch, classical
demosaicing. All see the same codes.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import srgb_decode
from edge_isp.calibration.simulation import SensorModel
from edge_isp.evaluation.isp.metrics import ciede2000, psnr_db, ssim
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.training.simulation import Capture, load_photo

# What the figures depend on, beside our own code and OpenCV, which comes in packages of several names.
_PACKAGES = ("edge-isp", "numpy", "torch", "ai-edge-litert", "scikit-image", "colour-demosaicing")


@dataclass(frozen=True, slots=True)
class SimulatedExposure:
    """A simulated exposure of a test image.

    Attributes:
        photo: the image, uint8 (height, width, 3), even sizes: what pictures of the exposure are compared with.
        sensor: that it was exposed on.
        capture: under which circumstances.
        codes: RAW, uint16 (height, width), in the sensor's own colour order.
    """

    photo: NDArray[np.uint8]
    sensor: SensorModel
    capture: Capture
    codes: NDArray[np.uint16]

    def frame(self) -> RawFrame:
        """As the sensor's camera would deliver it."""
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
        )


def shoot(image: Path, sensor: SensorModel, capture: Capture) -> SimulatedExposure:
    """Exposes a sensor to an image; the noise depends on the image's stem and nothing else."""
    return expose(load_photo(image, 1), image.stem, sensor, capture)


def expose(photo: NDArray[np.uint8], stem: str, sensor: SensorModel, capture: Capture) -> SimulatedExposure:
    """As `shoot`, of an image that is loaded."""
    linear = srgb_decode(photo.astype(np.float32) / np.float32(255)).astype(np.float32)
    codes = sensor.codes(
        linear,
        np.random.default_rng([1000, zlib.crc32(stem.encode())]),
        colour_temperature_k=capture.colour_temperature_k,
        exposure=capture.exposure,
        analogue_gain=capture.analogue_gain,
    )
    return SimulatedExposure(photo, sensor, capture, codes)


Develop = Callable[[SimulatedExposure], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Method:
    """A way from RAW to a picture.

    Attributes:
        name: tells it from the others.
        made_with: what else decides its pictures of a sensor under some circumstances (the weights' SHA-256, the
            strength of a filter): where that has changed, a figure no longer holds.
        open: prepares it for a sensor; inside, exposures become pictures, uint8 (height, width, 3).
    """

    name: str
    made_with: Callable[[SensorModel, Capture], str]
    open: Callable[[SensorModel], AbstractContextManager[Develop]]


# Method, sensor, colour temperature in kelvin, analogue gain, image.
Key = tuple[str, str, float, float, str]


@dataclass(frozen=True, slots=True)
class Figure:
    """The quality of one picture.

    Attributes:
        way, made_with: see `Method`.
        sensor: name of its profile.
        image: stem of the test image.
        psnr_db, ssim, ciede2000: see `metrics`.
        seconds: that the picture took, from RAW codes to 8 bits.
        software: which of the file's entries on software it was made by.
    """

    way: str
    made_with: str
    sensor: str
    colour_temperature_k: float
    analogue_gain: float
    image: str
    psnr_db: float
    ssim: float
    ciede2000: float
    seconds: float
    software: int

    @property
    def key(self) -> Key:
        """What tells it from all others."""
        return self.way, self.sensor, self.colour_temperature_k, self.analogue_gain, self.image


class Store:
    """Figures in a JSON file, found there again by the next run.

    Args:
        path: of the file, made when the first figures are saved; None to keep them in memory alone.

    Raises:
        ValueError: the file is there and was not written by a store.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._figures: dict[Key, Figure] = {}
        self._software: list[dict[str, str]] = []
        if path is not None and path.exists():
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                self._software = list(document["software"])
                self._figures = {figure.key: figure for figure in (Figure(**entry) for entry in document["figures"])}
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}: expected figures that 'edge-isp evaluate' wrote, found something else ({error!r}); "
                    "remove it or name another file"
                ) from error
        own = _software()
        if own not in self._software:
            self._software.append(own)
        self.software = self._software.index(own)

    def find(self, way: Method, sensor: SensorModel, capture: Capture, image: Path) -> Figure | None:
        """The figure of a picture; None where there is none that still holds."""
        made_with = way.made_with(sensor, capture)
        temperature, gain = capture.colour_temperature_k, capture.analogue_gain
        figure = self._figures.get((way.name, sensor.profile.name, temperature, gain, image.stem))
        return figure if figure is not None and figure.made_with == made_with else None

    def add(self, figure: Figure) -> None:
        """Takes a figure in; it replaces the one of the same picture."""
        self._figures[figure.key] = figure

    def save(self) -> None:
        """Writes the file, whole or not at all; one line a figure."""
        if self.path is None:
            return
        used = sorted({figure.software for figure in self._figures.values()})
        software = ",\n".join(json.dumps(self._software[i]) for i in used)
        lines = []
        for figure in self._figures.values():
            lines.append(json.dumps(asdict(figure) | {"software": used.index(figure.software)}))
        figures = ",\n".join(lines)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(self.path.suffix + ".unfinished")
        unfinished.write_text(f'{{"software": [\n{software}\n],\n"figures": [\n{figures}\n]}}\n', encoding="utf-8")
        os.replace(unfinished, self.path)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which pictures to measure: of every image, by every way, on every sensor, under all circumstances."""

    methods: Sequence[Method]
    sensors: Sequence[SensorModel]
    captures: Sequence[Capture]
    images: Sequence[Path]

    def missing(self, store: Store) -> int:
        """How many figures the store lacks."""
        return sum(
            store.find(way, sensor, capture, image) is None
            for way in self.methods
            for sensor in self.sensors
            for capture in self.captures
            for image in self.images
        )


def measure(plan: Plan, store: Store, report: Callable[[str], None] = lambda what: None) -> None:
    """Measures what the store lacks of a plan; saves after every way, sensor and capture, and when interrupted.

    Args:
        report: called after each figure, with what is being measured.
    """
    for way in plan.methods:
        for sensor in plan.sensors:
            groups = [
                (capture, [image for image in plan.images if store.find(way, sensor, capture, image) is None])
                for capture in plan.captures
            ]
            groups = [(capture, images) for capture, images in groups if images]
            if not groups:
                continue
            with way.open(sensor) as develop:
                # Kernels are compiled and buffers made in the first picture: it is not timed.
                first, images = groups[0]
                develop(shoot(images[0], sensor, first))
                for capture, images in groups:
                    try:
                        for image in images:
                            store.add(_measure(way, develop, shoot(image, sensor, capture), image.stem, store.software))
                            report(f"{way.name}, {sensor.profile.name}, gain {capture.analogue_gain:g}")
                    finally:
                        store.save()


def _measure(way: Method, develop: Develop, shot: SimulatedExposure, image: str, software: int) -> Figure:
    started = time.perf_counter()
    rgb = develop(shot)
    seconds = time.perf_counter() - started
    return Figure(
        way=way.name,
        made_with=way.made_with(shot.sensor, shot.capture),
        sensor=shot.sensor.profile.name,
        colour_temperature_k=shot.capture.colour_temperature_k,
        analogue_gain=shot.capture.analogue_gain,
        image=image,
        psnr_db=round(psnr_db(rgb / 255, shot.photo / 255), 4),
        ssim=round(ssim(rgb, shot.photo), 6),
        ciede2000=round(ciede2000(rgb, shot.photo), 5),
        seconds=round(seconds, 5),
        software=software,
    )


def _software() -> dict[str, str]:
    """Commit, versions and platform."""
    described = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    versions = {package: version(package) for package in _PACKAGES}
    return {
        "commit": described.stdout.strip() or "unknown",
        **versions,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
