"""Objects in images, and the labels of a data set. Does without PyTorch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_isp.errors import DatasetError, did_you_mean, shortened

# EXIF's tag, and those of its values with which the upright picture has the stored one's width as its height.
_ORIENTATION, _TURNED = 0x0112, range(5, 9)

# COCO's file in a folder that Roboflow and Label Studio export.
_COCO_FILES = ("_annotations.coco.json", "result.json")

# What stands around a frame's name in the name of its labels: Label Studio's and Roboflow's marks, and the session that
# `edge-isp export recording --format png` writes into the names of its pictures.
_MARKS = (r"^[0-9a-f]{8}-", r"_(jpe?g|png)\.rf\.\w+$", r"_\d{8}T\d{6}Z(?=_\d{6}(_\d+)?$)")


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


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """Labels of an image as a file has them.

    Attributes:
        xyxy: (n, 4), x0, y0, x1, y1.
        class_id: (n,).
        size: width and height of the image in the units of `xyxy`; None where those are its pixels.
    """

    xyxy: NDArray[np.float64]
    class_id: NDArray[np.int64]
    size: tuple[float, float] | None

    def boxes(self, width: float, height: float) -> Boxes:
        """In the pixels of the image.

        Args:
            width: of the image.
            height: of the image.
        """
        scale = (1.0, 1.0) if self.size is None else (width / self.size[0], height / self.size[1])
        return Boxes(self.xyxy * (*scale, *scale), self.class_id, np.ones(len(self.class_id)))


NO_LABELS = ImageLabels(np.zeros((0, 4)), np.zeros(0, np.int64), None)


def load_labels(images: Sequence[Path], source: Path, class_names: Sequence[str] | None = None) -> dict[str, Boxes]:
    """The objects of images, by image stem, from labels in YOLO's or in COCO's format.

    Args:
        images: whose labels are read.
        source: a folder of YOLO's `STEM.txt`, with a line for each object: class, centre and size as shares of the
            image's size, or class and the corners of a polygon; an image without one holds no object. Or a `.json` of
            COCO's instances, whose categories are known by their names; crowds are left out. Or the folder of an export
            that has one of them in it.
        class_names: in the order of their numbers. None takes YOLO's numbers as they are; COCO's need it.

    Raises:
        DatasetError: a line or an annotation is something else, its class is not among the names, no image has labels,
            or an image cannot be read.
    """
    found = read_labels(source, class_names, {image.stem for image in images})
    known = [image for image in images if image.stem in found]
    if images and not known:
        raise DatasetError(
            f"{source}: has labels of none of {len(images)} images; expected {images[0].stem}.txt and the like"
        )
    if is_coco(source) and len(known) < len(images):
        missing = sorted({image.stem for image in images} - set(found))
        raise DatasetError(f"{source}: does not name the image '{missing[0]}', nor {len(missing) - 1} more")
    out = {}
    for image in images:
        labels = found.get(image.stem, NO_LABELS)
        out[image.stem] = labels.boxes(*((0, 0) if labels.size is None else _upright_size(image)))
    return out


def read_labels(
    source: Path, class_names: Sequence[str] | None, stems: Collection[str] | None = None
) -> dict[str, ImageLabels]:
    """Labels as their files have them, by image stem.

    Args:
        source: see `load_labels`.
        class_names: see `load_labels`.
        stems: of the images whose labels are read; None reads all.

    Raises:
        DatasetError: see `load_labels`.
    """
    place = labels_place(source)
    if place.suffix == ".json":
        return _read_coco(place, class_names or (), stems)
    if stems is None:
        stems = [path.stem for path in sorted(place.glob("*.txt")) if path.name != "classes.txt"]
    paths = {stem: place / f"{stem}.txt" for stem in stems}
    return {stem: _read_yolo(path, class_names) for stem, path in paths.items() if path.exists()}


def labels_place(source: Path) -> Path:
    """The `.json` or the folder of `.txt` files that labels are read from: `source`, or what an export has in it.

    Args:
        source: see `load_labels`.
    """
    if source.is_dir():
        for name in _COCO_FILES:
            if (source / name).is_file():
                return source / name
        if (source / "labels").is_dir():
            return source / "labels"
    return source


def is_coco(source: Path) -> bool:
    """Whether labels are in COCO's format.

    Args:
        source: see `load_labels`.
    """
    return labels_place(source).suffix == ".json"


def frame_stem(stem: str) -> str:
    """The name of a frame, of the name of its labels: without the marks of the programs that it went through.

    Args:
        stem: such as "1a2b3c4d-ride_20261128T101500Z_000042", which is "ride_000042".
    """
    for mark in _MARKS:
        stem = re.sub(mark, "", stem)
    return stem


def _upright_size(image: Path) -> tuple[int, int]:
    try:
        with Image.open(image) as opened:
            width, height = opened.size
            turned = opened.getexif().get(_ORIENTATION, 1) in _TURNED  # labels are those of the upright picture
    except OSError as error:
        raise DatasetError(f"{image}: cannot be read as a photograph: {error}") from error
    return (height, width) if turned else (width, height)


def _read_yolo(path: Path, class_names: Sequence[str] | None) -> ImageLabels:
    boxes, classes = [], []
    try:
        lines = [[float(value) for value in line.split()] for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path}: expected lines of class, x, y, width, height: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        class_id, *place = line
        where = f"{path}: line {number}"
        # A polygon has three corners at least.
        if len(place) != 4 and (len(place) < 6 or len(place) % 2):
            raise DatasetError(
                f"{where}: expected lines of class, x, y, width, height, or of class and a polygon's corners: found "
                f"{len(line)} numbers"
            )
        _check_class(where, class_id, class_names)
        if not all(map(math.isfinite, place)) or (len(place) == 4 and min(place[2:]) < 0):
            raise DatasetError(
                f"{where}: x, y, width and height must be finite, and sizes not negative, found "
                f"{', '.join(f'{value:g}' for value in place)}"
            )
        if len(place) == 4:
            x, y, width, height = place
            boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
        else:
            boxes.append((min(place[::2]), min(place[1::2]), max(place[::2]), max(place[1::2])))
        classes.append(int(class_id))
    return ImageLabels(np.array(boxes, np.float64).reshape(-1, 4), np.array(classes, np.int64), (1.0, 1.0))


def _read_coco(path: Path, class_names: Sequence[str], stems: Collection[str] | None) -> dict[str, ImageLabels]:
    numbers = {plain_name(name): number for number, name in enumerate(class_names)}
    exact = {name: number for number, name in enumerate(class_names)}
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        images = {entry["id"]: entry for entry in document["images"]}
        names = {entry["id"]: str(entry["name"]) for entry in document["categories"]}
        found: dict[Any, list[tuple[int, list[float]]]] = {identity: [] for identity in images}
        for number, entry in enumerate(document["annotations"]):
            where, category = f"{path}: annotation {entry.get('id', number)}", entry["category_id"]
            if entry.get("iscrowd"):
                continue
            if category not in names:
                raise DatasetError(f"{where}: category_id {category!r} is not among the file's {len(names)} categories")
            if entry["image_id"] not in images:
                raise DatasetError(f"{where}: image_id {entry['image_id']!r} is not among the file's images")
            class_id = exact.get(names[category], numbers.get(plain_name(names[category])))
            if class_id is None:
                raise DatasetError(
                    f"{where}: class '{shortened(names[category])}' is not among the {len(class_names)} classes"
                    f"{did_you_mean(names[category], class_names)}"
                )
            x, y, width, height = (float(value) for value in entry["bbox"])
            if not all(map(math.isfinite, (x, y, width, height))) or min(width, height) < 0:
                raise DatasetError(f"{where}: bbox must be finite x, y, width, height, found {entry['bbox']}")
            found[entry["image_id"]].append((class_id, [x, y, x + width, y + height]))
        out: dict[str, ImageLabels] = {}
        for identity, objects in found.items():
            stem = _stem(images[identity]["file_name"])
            if stem in out:
                raise DatasetError(f"{path}: two images are called '{shortened(stem)}': names must differ")
            if stems is None or stem in stems:
                out[stem] = ImageLabels(
                    np.array([box for _, box in objects], np.float64).reshape(-1, 4),
                    np.array([class_id for class_id, _ in objects], np.int64),
                    _stated_size(path, images[identity]),
                )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: expected labels in COCO's format (instances): {error!r}") from error
    return out


def _stem(file_name: str) -> str:
    """Label Studio on Windows writes backslashes."""
    return Path(file_name.replace("\\", "/")).stem


def _stated_size(path: Path, image: Mapping[str, Any]) -> tuple[float, float] | None:
    """COCO's boxes are in pixels of an image of this size, whatever size the file has since."""
    if "width" not in image or "height" not in image:
        return None
    size = float(image["width"]), float(image["height"])
    if not all(0 < side < math.inf for side in size):
        raise DatasetError(
            f"{path}: image {image['id']!r}: width and height must be above 0, found {size[0]:g} x {size[1]:g}"
        )
    return size


def _check_class(where: str, class_id: float, class_names: Sequence[str] | None) -> None:
    if class_names is None:
        count, numbered = math.inf, "whole numbers from 0 on"
    else:
        count, numbered = len(class_names), f"numbered 0 to {len(class_names) - 1}"
    if not (0 <= class_id < count and class_id == int(class_id)):
        raise DatasetError(f"{where}: class {class_id:g} is not among the classes, which are {numbered}")


def plain_name(name: str) -> str:
    """A name without what lists of the same classes write differently: "baseball bat" and "baseballbat".

    Args:
        name: of a class.
    """
    return "".join(character for character in name.lower() if character.isalnum())
