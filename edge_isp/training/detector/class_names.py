"""The names of the classes that labels number: of a file, or of what labelling programs write beside their labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_isp.errors import DatasetError, MissingDependencyError, shortened
from edge_isp.training.detector.labels import labels_place

# What programs write beside YOLO's labels: Roboflow and Ultralytics a data.yaml, Label Studio a classes.txt.
_FILES = ("data.yaml", "classes.txt")


def load_class_names(path: Path) -> tuple[str, ...]:
    """Names in the order of their numbers.

    Args:
        path: of a text file with a name in each line; of a `.yaml` with `names`, a list or a table by number, as
            Roboflow and Ultralytics write it; or of a `.json` of COCO's instances, whose categories are put in the
            order of their ids.

    Raises:
        DatasetError: the file is none of these, or a name is empty or stands there twice.
        MissingDependencyError: the file is YAML, and pyyaml is not installed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as names of classes: {error}") from error
    match path.suffix.lower():
        case ".yaml" | ".yml":
            names = _of_yaml(path, text)
        case ".json":
            names = _of_coco(path, text)
        case _:
            names = text.rstrip().splitlines()
    names = [name.strip() for name in names]
    if not names or not all(names):
        raise DatasetError(
            f"{path}: expected a name of a class in each line, found {'none' if not names else 'an empty one'}"
        )
    for name in names:
        if names.count(name) > 1:
            raise DatasetError(f"{path}: the class '{shortened(name)}' is named {names.count(name)} times")
    return tuple(names)


def find_class_names(labels: Path) -> tuple[str, ...]:
    """Names that stand beside labels: in a COCO file its categories, otherwise of a data.yaml or a classes.txt.

    Args:
        labels: see `labels.load_labels`.

    Raises:
        DatasetError: there are none, or see `load_class_names`.
    """
    place = labels_place(labels)
    if place.suffix == ".json":
        return load_class_names(place)
    for path in _candidates(place):
        if path.is_file():
            return load_class_names(path)
    raise DatasetError(
        f"{labels}: no {' or '.join(_FILES)} beside it names the classes; name them with --class-names FILE"
    )


def _candidates(labels: Path) -> Iterator[Path]:
    """An export has them in its root, and the labels two folders below it at most."""
    folder = labels.absolute()
    for place in (folder, *folder.parents[:2]):
        for name in _FILES:
            yield place / name


def _of_yaml(path: Path, text: str) -> list[str]:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError(f"'{path}'", "pyyaml", "train") from error
    try:
        document = yaml.safe_load(text)
        names = document["names"]
        if isinstance(names, Mapping):
            numbers = sorted(names)
            if numbers != list(range(len(numbers))):
                raise DatasetError(
                    f"{path}: 'names' must be numbered 0 to {len(numbers) - 1}, found {shortened(str(numbers))}"
                )
            names = [names[number] for number in numbers]
        return [str(name) for name in _list(names)]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: expected YAML with 'names', a list or a table by number: {error}") from error


def _of_coco(path: Path, text: str) -> list[str]:
    try:
        document = json.loads(text)
        used = {entry["category_id"] for entry in document.get("annotations", ())}
        categories = sorted(document["categories"], key=lambda category: int(category["id"]))
        parents = {category.get("supercategory") for category in categories}
        # Roboflow's first category is the project's name, the parent of all others, and has no object.
        return [str(c["name"]) for c in categories if c["id"] in used or c["name"] not in parents]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: expected categories as in COCO's instances: {error!r}") from error


def _list(names: Any) -> list[Any]:
    if not isinstance(names, list):
        raise TypeError(f"found a {type(names).__name__}")
    return names
