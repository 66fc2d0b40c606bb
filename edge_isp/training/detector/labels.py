"""Objects in images, and the labels of a data set. Does without PyTorch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_isp.errors import DatasetError, did_you_mean, shortened

# EXIF's tag, and those of its values with which the upright picture has the stored one's width as its height.
_ORIENTATION, _TURNED = 0x0112, range(5, 9)


@dataclass(frozen=True, slots=True)
class Boxes:
    """Objects of one image.

    Attributes:
        xyxy: (n, 4), x0, y0, x1, y1 in the image's pixels.
        class_id: (n,).
        confidence: (n,), 1 for labels.
    """

    xyxy: NDArray[np.float64]
    class_id: NDArray[np.int64]
    confidence: NDArray[np.float64]


def load_labels(images: Sequence[Path], source: Path, class_names: Sequence[str] | None = None) -> dict[str, Boxes]:
    """The objects of images, by image stem, from labels in YOLO's or in COCO's format.

    Args:
        images: whose labels are read.
        source: a folder of YOLO's `STEM.txt`, with a line for each object: class, centre and size as shares of the
            image's size; an image without one holds no object. Or a `.json` of COCO's instances, whose categories are
            known by their names; crowds are left out.
        class_names: in the order of their numbers. None takes YOLO's numbers as they are; COCO's need it.

    Raises:
        DatasetError: a line or an annotation is something else, its class is not among the names, or an image cannot be
            read.
    """
    if source.suffix == ".json":
        return _load_coco(images, source, class_names or ())
    return {image.stem: _load_yolo(image, source / f"{image.stem}.txt", class_names) for image in images}


def _load_yolo(image: Path, path: Path, class_names: Sequence[str] | None) -> Boxes:
    try:
        with Image.open(image) as opened:
            width, height = opened.size
            if opened.getexif().get(_ORIENTATION, 1) in _TURNED:  # labels are those of the upright picture
                width, height = height, width
    except OSError as error:
        raise DatasetError(f"{image}: cannot be read as a photograph: {error}") from error
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        values = np.array([[float(value) for value in line.split()] for line in lines], np.float64).reshape(-1, 5)
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path}: expected lines of class, x, y, width, height: {error}") from error
    for number, (class_id, *place) in enumerate(values.tolist(), 1):
        _check_class(f"{path}: line {number}", class_id, class_names)
        if not all(math.isfinite(value) for value in place) or min(place[2:]) < 0:
            raise DatasetError(
                f"{path}: line {number}: x, y, width and height must be finite, and sizes not negative, found "
                f"{', '.join(f'{value:g}' for value in place)}"
            )
    centre, size = values[:, 1:3] * (width, height), values[:, 3:5] * (width, height)
    xyxy = np.concatenate([centre - size / 2, centre + size / 2], 1)
    return Boxes(xyxy, values[:, 0].astype(np.int64), np.ones(len(values)))


def _load_coco(images: Sequence[Path], path: Path, class_names: Sequence[str]) -> dict[str, Boxes]:
    numbers = {_plain(name): number for number, name in enumerate(class_names)}
    found: dict[str, list[tuple[int, list[float]]]] = {image.stem: [] for image in images}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        stems = {entry["id"]: Path(entry["file_name"]).stem for entry in document["images"]}
        names = {entry["id"]: str(entry["name"]) for entry in document["categories"]}
        for number, entry in enumerate(document["annotations"]):
            if entry.get("iscrowd"):
                continue
            where, category = f"{path}: annotation {entry.get('id', number)}", entry["category_id"]
            if category not in names:
                raise DatasetError(f"{where}: category_id {category!r} is not among the file's {len(names)} categories")
            if entry["image_id"] not in stems:
                raise DatasetError(f"{where}: image_id {entry['image_id']!r} is not among the file's images")
            if _plain(names[category]) not in numbers:
                raise DatasetError(
                    f"{where}: class '{shortened(names[category])}' is not among the {len(class_names)} classes"
                    f"{did_you_mean(names[category], class_names)}"
                )
            x, y, width, height = (float(value) for value in entry["bbox"])
            if not all(map(math.isfinite, (x, y, width, height))) or min(width, height) < 0:
                raise DatasetError(f"{where}: bbox must be finite x, y, width, height, found {entry['bbox']}")
            objects = found.get(stems[entry["image_id"]])
            if objects is not None:
                objects.append((numbers[_plain(names[category])], [x, y, x + width, y + height]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: expected labels in COCO's format (instances): {error!r}") from error
    if missing := sorted(set(found) - set(stems.values())):
        raise DatasetError(f"{path}: does not name the image '{missing[0]}', nor {len(missing) - 1} more")
    return {
        stem: Boxes(
            np.array([box for _, box in objects], np.float64).reshape(-1, 4),
            np.array([class_id for class_id, _ in objects], np.int64),
            np.ones(len(objects)),
        )
        for stem, objects in found.items()
    }


def _check_class(where: str, class_id: float, class_names: Sequence[str] | None) -> None:
    if class_names is None:
        count, numbered = math.inf, "whole numbers from 0 on"
    else:
        count, numbered = len(class_names), f"numbered 0 to {len(class_names) - 1}"
    if not (0 <= class_id < count and class_id == int(class_id)):
        raise DatasetError(f"{where}: class {class_id:g} is not among the classes, which are {numbered}")


def _plain(name: str) -> str:
    """A name without what lists of the same classes write differently: "baseball bat" and "baseballbat"."""
    return "".join(character for character in name.lower() if character.isalnum())
