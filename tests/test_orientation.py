"""Turning pictures upright, against Pillow's own reading of EXIF."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from edge_isp.orientation import upright_picture, upright_size


def turned_by_pillow(rgb: np.ndarray, orientation: int) -> np.ndarray:
    image = Image.fromarray(rgb)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_turn_as_pillow_turns_them(orientation: int) -> None:
    width, height = 12, 8
    rgb = np.random.default_rng(orientation).integers(0, 200, (height, width, 3)).astype(np.uint8)
    upright = upright_picture(rgb, orientation)
    np.testing.assert_array_equal(upright, turned_by_pillow(rgb, orientation))
    assert upright.flags.c_contiguous
    assert upright.shape[:2] == upright_size(width, height, orientation)[::-1]


def test_an_upright_picture_is_not_copied() -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    assert upright_picture(rgb, 1) is rgb
