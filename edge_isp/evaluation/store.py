"""What is measured of which methods, and the file that keeps all results, of pictures and of detections alike."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from edge_isp.calibration.simulation import SensorModel
from edge_isp.errors import EvaluationError
from edge_isp.evaluation.exposures import SimulatedExposure
from edge_isp.files import replace_files
from edge_isp.training.run_metadata import commit
from edge_isp.training.simulation.samples import Capture

# What results depend on, besides our own code.
_PACKAGES = (
    "edge-isp",
    "numpy",
    "torch",
    "ai-edge-litert",
    "scikit-image",
    "colour-demosaicing",
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python",
)

# Digits of a SHA-256 that identify a file of weights.
SHA256_DIGITS = 12

# What a method makes of an exposure.
Output = TypeVar("Output")


@dataclass(frozen=True, slots=True)
class Method(Generic[Output]):
    """A method from RAW to a picture or to detections.

    Attributes:
        name: no other method has it.
        made_with: what else decides its output on a sensor under some circumstances (the weights' SHA-256, the
            strength of a filter): where that has changed, a result no longer holds.
        open: prepares it for a sensor; inside, exposures become outputs.
    """

    name: str
    made_with: Callable[[SensorModel, Capture], str]
    open: Callable[[SensorModel], AbstractContextManager[Callable[[SimulatedExposure], Output]]]


class Key(NamedTuple):
    """What identifies a result."""

    method: str
    sensor: str
    cfa: str
    colour_temperature_k: float
    exposure: float
    analogue_gain: float
    image: str


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of one output.

    Attributes:
        key: of which output.
        made_with: see `Method`.
        seconds: that the output took, from RAW codes.
        values: what is kept of it; the plan decides.
        software: number of the file's entry on software that it was made by.
    """

    key: Key
    made_with: str
    seconds: float
    values: Mapping[str, Any]
    software: int

    def document(self) -> dict[str, Any]:
        """The result as its line in the file."""
        return (
            self.key._asdict()
            | {"made_with": self.made_with, "seconds": self.seconds, "software": self.software}
            | {"values": dict(self.values)}
        )


class Store:
    """Results in a JSON file, found there again by the next run.

    Args:
        path: of the file, made when the first results are saved; None to keep them in memory alone.
        kind: what the results are of: "pictures" or "detections".

    Raises:
        EvaluationError: the file cannot be read, or was not written by a store of this kind.
    """

    def __init__(self, path: Path | None, kind: str) -> None:
        self.path, self.kind = path, kind
        self._results: dict[Key, Result] = {}
        self._software: list[dict[str, str]] = []
        if path is not None and path.exists():
            self._load(path)
        own = _software()
        if own not in self._software:
            self._software.append(own)
        self._own_software = self._software.index(own)

    def find(self, method: Method[Any], sensor: SensorModel, capture: Capture, image: Path) -> Result | None:
        """The result of an output; None where there is none that still holds.

        Args:
            method: that made the output.
            sensor: that was exposed.
            capture: the circumstances.
            image: the test image.
        """
        result = self._results.get(_key(method, sensor, capture, image))
        return result if result is not None and result.made_with == method.made_with(sensor, capture) else None

    def add(
        self,
        method: Method[Any],
        sensor: SensorModel,
        capture: Capture,
        image: Path,
        *,
        seconds: float,
        values: Mapping[str, Any],
    ) -> None:
        """Takes a result in; it replaces the one of the same key.

        Args:
            method: that made the output.
            sensor: that was exposed.
            capture: the circumstances.
            image: the test image.
            seconds: that the output took.
            values: what is kept of it, as JSON holds it.
        """
        key = _key(method, sensor, capture, image)
        made_with = method.made_with(sensor, capture)
        self._results[key] = Result(key, made_with, round(seconds, 5), values, self._own_software)

    def save(self) -> None:
        """Writes the file, whole or not at all; one line per result.

        Raises:
            EvaluationError: it cannot be written.
        """
        if self.path is None:
            return
        used = sorted({result.software for result in self._results.values()})
        software = ",\n".join(json.dumps(self._software[i]) for i in used)
        results = ",\n".join(
            json.dumps(result.document() | {"software": used.index(result.software)})
            for result in self._results.values()
        )
        text = f'{{"kind": "{self.kind}",\n"software": [\n{software}\n],\n"results": [\n{results}\n]}}\n'
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_files({self.path: text.encode()})
        except OSError as error:
            raise EvaluationError(f"{self.path}: cannot be written: {error}") from error

    def _load(self, path: Path) -> None:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            kind = document["kind"]
            self._software = list(document["software"])
            for entry in document["results"]:
                key = Key(*(entry[field] for field in Key._fields))
                self._results[key] = Result(
                    key, entry["made_with"], entry["seconds"], dict(entry["values"]), int(entry["software"])
                )
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise EvaluationError(
                f"{path}: expected results that 'edge-isp evaluate' wrote, found something else ({error!r}); "
                "remove it or name another file"
            ) from error
        if kind != self.kind:
            raise EvaluationError(f"{path}: expected results of {self.kind}, found some of {kind}; name another file")


@dataclass(frozen=True, slots=True)
class Plan(Generic[Output]):
    """What to measure: every image, by every method, on every sensor, under all circumstances.

    Attributes:
        methods: all of different names.
        sensors: that are exposed.
        captures: the circumstances.
        images: the test images.
        expose: exposes a sensor to an image.
        keep: what is kept of an output, as JSON holds it.
    """

    methods: Sequence[Method[Output]]
    sensors: Sequence[SensorModel]
    captures: Sequence[Capture]
    images: Sequence[Path]
    expose: Callable[[Path, SensorModel, Capture], SimulatedExposure]
    keep: Callable[[Output, SimulatedExposure], Mapping[str, Any]]

    def __post_init__(self) -> None:
        names = [method.name for method in self.methods]
        for name in names:
            if names.count(name) > 1:
                raise EvaluationError(
                    f"two of the models or weights are called '{name}'; rename a file, or measure one at a time"
                )
        stems = [image.stem for image in self.images]
        for image in self.images:
            if stems.count(image.stem) > 1:
                raise EvaluationError(f"{image.parent}: two images are called '{image.stem}'; rename one")

    def missing(self, store: Store) -> int:
        """How many results the store lacks.

        Args:
            store: of results.
        """
        return sum(
            len(self._lacking(store, method, sensor, capture))
            for method in self.methods
            for sensor in self.sensors
            for capture in self.captures
        )

    def measure(self, store: Store, report: Callable[[str], None] = lambda what: None) -> None:
        """Measures what the store lacks; saves after every method, sensor and capture, and when interrupted.

        Args:
            store: of results.
            report: called after each result, with what is being measured.
        """
        for method in self.methods:
            for sensor in self.sensors:
                self._measure(store, method, sensor, report)

    def results(self, store: Store, method: Method[Output], sensor: SensorModel, capture: Capture) -> dict[str, Result]:
        """What was measured of a method, by stem of the image.

        Args:
            store: of results, after `measure`.
            method: one of the plan's.
            sensor: one of the plan's.
            capture: one of the plan's.
        """
        found = {image.stem: store.find(method, sensor, capture, image) for image in self.images}
        return {stem: result for stem, result in found.items() if result is not None}

    def _lacking(self, store: Store, method: Method[Output], sensor: SensorModel, capture: Capture) -> list[Path]:
        return [image for image in self.images if store.find(method, sensor, capture, image) is None]

    def _measure(
        self, store: Store, method: Method[Output], sensor: SensorModel, report: Callable[[str], None]
    ) -> None:
        lacking = [(capture, self._lacking(store, method, sensor, capture)) for capture in self.captures]
        lacking = [(capture, images) for capture, images in lacking if images]
        if not lacking:
            return
        with method.open(sensor) as run:
            # Kernels are compiled and buffers made for the first output: it is not timed.
            first, images = lacking[0]
            run(self.expose(images[0], sensor, first))
            for capture, images in lacking:
                try:
                    for image in images:
                        exposure = self.expose(image, sensor, capture)
                        started = time.perf_counter()
                        output = run(exposure)
                        seconds = time.perf_counter() - started
                        values = self.keep(output, exposure)
                        store.add(method, sensor, capture, image, seconds=seconds, values=values)
                        report(f"{method.name}, {sensor.profile.name}, gain {capture.analogue_gain:g}")
                finally:
                    store.save()


def combinations(plan: Plan[Any]) -> Iterator[tuple[Capture, SensorModel, Method[Any]]]:
    """All captures, sensors and methods of a plan, in this order.

    Args:
        plan: what was measured.
    """
    for capture in plan.captures:
        for sensor in plan.sensors:
            for method in plan.methods:
                yield capture, sensor, method


def _key(method: Method[Any], sensor: SensorModel, capture: Capture, image: Path) -> Key:
    temperature, exposure, gain = capture.colour_temperature_k, capture.exposure, capture.analogue_gain
    return Key(method.name, sensor.profile.name, sensor.profile.cfa, temperature, exposure, gain, image.stem)


def _software() -> dict[str, str]:
    """Commit, versions and platform."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue  # not everything needs everything
    return {
        "commit": commit(),
        **versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
