"""Turning results upright, against Pillow's own reading of EXIF."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from edge_isp.orientation import upright_boxes, upright_picture


def turned_by_pillow(rgb: np.ndarray, orientation: int) -> np.ndarray:
    image = Image.fromarray(rgb)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_and_boxes_turn_together(orientation: int) -> None:
    width, height = 12, 8
    rgb = np.random.default_rng(orientation).integers(0, 200, (height, width, 3)).astype(np.uint8)
    rgb[1:4, 2:9] = 255
    upright = upright_picture(rgb, orientation)
    np.testing.assert_array_equal(upright, turned_by_pillow(rgb, orientation))
    assert upright.flags.c_contiguous
    boxes = upright_boxes(np.array([[2, 1, 9, 4], [0, 0, 12, 8]], np.float32), width, height, orientation)
    assert boxes.dtype == np.float32
    rows, columns = np.nonzero((upright == 255).all(axis=2))
    assert boxes[0].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert boxes[1].tolist() == [0, 0, upright.shape[1], upright.shape[0]]


def test_an_upright_picture_is_not_copied() -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    assert upright_picture(rgb, 1) is rgb
    assert upright_boxes(np.zeros((0, 4), np.float32), 6, 4, 6).shape == (0, 4)
