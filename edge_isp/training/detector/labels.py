"""Objects in images, and the labels of a data set. Does without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_isp.errors import DatasetError

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


def load_labels(images: Sequence[Path], folder: Path) -> dict[str, Boxes]:
    """YOLO labels by image stem: one line per object: class, centre and size as shares of the image's size.

    Args:
        images: whose labels are read.
        folder: of `STEM.txt`; an image without one holds no object.

    Raises:
        DatasetError: a line is something else, or an image cannot be read.
    """
    out = {}
    for image in images:
        try:
            with Image.open(image) as opened:
                width, height = opened.size
                if opened.getexif().get(_ORIENTATION, 1) in _TURNED:  # labels are those of the upright picture
                    width, height = height, width
        except OSError as error:
            raise DatasetError(f"{image}: cannot be read as a photograph: {error}") from error
        path = folder / f"{image.stem}.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        try:
            values = np.array([[float(value) for value in line.split()] for line in lines], np.float64).reshape(-1, 5)
        except ValueError as error:
            raise DatasetError(f"{path}: expected lines of class, x, y, width, height: {error}") from error
        centre, size = values[:, 1:3] * (width, height), values[:, 3:5] * (width, height)
        xyxy = np.concatenate([centre - size / 2, centre + size / 2], 1)
        out[image.stem] = Boxes(xyxy, values[:, 0].astype(np.int64), np.ones(len(values)))
    return out
