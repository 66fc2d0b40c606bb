"""The network's output to pictures: 12 planes to RGB or BGR, and RGB to the YUV that a video encoder takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_array, check_image, check_output, check_rows
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import read_only

# Changes a signed byte to the unsigned one 128 higher: the output table of a model whose scale is 1 / 255.
_OFFSET_TABLE = np.arange(256, dtype=np.uint8)


def output_table(scale: float, zero_point: int, dtype: type = np.int8) -> NDArray[np.uint8]:
    """The 8-bit picture value of each code of an output tensor, uint8 (256,), from the lowest code up.

    An output of 0 is black, one of 1 is white.

    Args:
        scale: output = (code - zero_point) * scale.
        zero_point: see `scale`.
        dtype: of the codes, int8 or uint8.
    """
    codes = np.arange(256) + np.iinfo(dtype).min
    table: NDArray[np.uint8] = np.clip(np.rint((codes - zero_point) * scale * 255), 0, 255).astype(np.uint8)
    return table


def decode_rgb(
    planes: NDArray[Any],
    out: NDArray[np.uint8],
    table: NDArray[np.uint8],
    *,
    bgr: bool = False,
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
    rows: tuple[int, int] | None = None,
) -> None:
    """Depth-to-space and to 8 bits: planes (h, w, 12) to an RGB picture (2h, 2w, 3).

    Plane (2 * y + x) * 3 + colour holds that colour of the pixel (y, x) of the 2x2 cell.

    Args:
        planes: int8 or uint8 (h, w, 12), C-contiguous.
        out: uint8 (2h, 2w, 3), C-contiguous.
        table: see `output_table`.
        bgr: write blue first, which is OpenCV's order.
        flip_vertical: make the first row of planes the last of the picture.
        flip_horizontal: make the first column of planes the last of the picture.
        rows: first and last (exclusive) row of planes to do; by default all.

    Raises:
        ValueError: An array has the wrong shape or dtype.
    """
    height, width = check_image("planes", planes, (np.int8, np.uint8), 12)
    check_array("table", table, np.uint8, (256,))
    check_output("out", out, np.uint8, (2 * height, 2 * width, 3), planes=planes, table=table)
    first, last = check_rows(rows, height)
    # Where the table only shifts signed to unsigned, arithmetic does the same, and it vectorises.
    offset = 128 if planes.dtype == np.int8 else 0
    _decode(
        read_only(planes.view(np.uint8)),
        out,
        # Bytes are looked up as unsigned: the entry of -128 is at 128.
        read_only(np.roll(table, offset)),
        np.array_equal(table, _OFFSET_TABLE),
        np.uint8(offset),
        bgr,
        (flip_vertical, flip_horizontal),
        (first, last),
    )


@kernel
def _decode(
    planes: NDArray[np.uint8],
    out: NDArray[np.uint8],
    table: NDArray[np.uint8],
    shift_only: bool,
    offset: np.uint8,
    bgr: bool,
    flips: tuple[bool, bool],
    rows: tuple[int, int],
) -> None:
    height, width, _ = planes.shape
    values = np.empty((width, 12), np.uint8)
    for i in range(rows[0], rows[1]):
        source = planes[i]
        flat_source, flat_values = source.reshape(12 * width), values.reshape(12 * width)
        if shift_only:
            for k in range(len(flat_values)):
                flat_values[k] = flat_source[k] ^ offset
        else:
            for k in range(len(flat_values)):
                flat_values[k] = table[flat_source[k]]
        for y in range(2):
            line = out[2 * height - 1 - 2 * i - y] if flips[0] else out[2 * i + y]
            if bgr or flips[1]:
                _write_pixels(values, 6 * y, bgr, flips[1], line)
            else:
                _write_pairs(values.view(np.uint16), 3 * y, line.reshape(6 * width).view(np.uint16))


@kernel
def _write_pairs(values: NDArray[np.uint16], begin: int, line: NDArray[np.uint16]) -> None:
    """Two bytes at once: the six values of two pixels follow each other on both sides."""
    for j in range(len(values)):
        for k in range(3):
            line[3 * j + k] = values[j, begin + k]


@kernel
def _write_pixels(values: NDArray[np.uint8], begin: int, bgr: bool, mirror: bool, line: NDArray[np.uint8]) -> None:
    end = len(line) - 1
    for j in range(len(values)):
        for x in range(2):
            target = end - 2 * j - x if mirror else 2 * j + x
            red = values[j, begin + 3 * x]
            green = values[j, begin + 3 * x + 1]
            blue = values[j, begin + 3 * x + 2]
            line[target, 0] = blue if bgr else red
            line[target, 1] = green
            line[target, 2] = red if bgr else blue


def rgb_to_i420(rgb: NDArray[np.uint8], out: NDArray[np.uint8], *, rows: tuple[int, int] | None = None) -> None:
    """RGB to planar YUV 4:2:0 (I420), BT.601, studio range (Y 16 to 235), as video encoders expect it.

    Y = (66 R + 129 G + 25 B + 128) / 256 + 16, and likewise U and V, in whole numbers; chroma is that of the mean of
    the 2x2 pixels.

    Args:
        rgb: uint8 (h, w, 3), C-contiguous, even sizes.
        out: uint8 (3 h / 2, w), C-contiguous: h rows of Y, then the U plane and the V plane, each (h / 2, w / 2).
        rows: first and last (exclusive) of the h / 2 pairs of rows to do; by default all.

    Raises:
        ValueError: An array has the wrong shape or dtype.
    """
    height, width = check_image("rgb", rgb, (np.uint8,), 3)
    if height % 2 or width % 2:
        raise ValueError(f"rgb must be uint8 (h, w, 3) of even sizes, found {rgb.dtype} {rgb.shape}")
    check_output("out", out, np.uint8, (height // 2 * 3, width), rgb=rgb)
    chroma = out[height:].reshape(2, height // 2, width // 2)
    _rgb_to_i420(read_only(rgb), out[:height], chroma, *check_rows(rows, height // 2))


@kernel
def _rgb_to_i420(
    rgb: NDArray[np.uint8], luma: NDArray[np.uint8], chroma: NDArray[np.uint8], first: int, last: int
) -> None:
    for i in range(first, last):
        for y in range(2):
            source, line = rgb[2 * i + y], luma[2 * i + y]
            for j in range(len(line)):
                weighted = 66 * np.int32(source[j, 0]) + 129 * np.int32(source[j, 1]) + 25 * np.int32(source[j, 2])
                line[j] = np.uint8((np.int32(weighted + 128) >> 8) + 16)
        above, below = rgb[2 * i], rgb[2 * i + 1]
        u, v = chroma[0, i], chroma[1, i]
        for j in range(len(u)):
            r, g, b = _sum4(above, below, j, 0), _sum4(above, below, j, 1), _sum4(above, below, j, 2)
            # Sums of four pixels: two bits more; 128 * 1024 is the offset, 512 the rounding.
            u[j] = np.uint8(np.int32(112 * b - 38 * r - 74 * g + 131584) >> 10)
            v[j] = np.uint8(np.int32(112 * r - 94 * g - 18 * b + 131584) >> 10)


@kernel(inline="always")
def _sum4(above: NDArray[np.uint8], below: NDArray[np.uint8], j: int, colour: int) -> np.int32:
    upper = np.int32(above[2 * j, colour]) + np.int32(above[2 * j + 1, colour])
    lower = np.int32(below[2 * j, colour]) + np.int32(below[2 * j + 1, colour])
    return np.int32(upper + lower)


def rgb_to_yuyv(rgb: NDArray[np.uint8], out: NDArray[np.uint8], *, rows: tuple[int, int] | None = None) -> None:
    """RGB to packed YUV 4:2:2 (YUYV), BT.601, studio range, as cameras of computers deliver it.

    The numbers are those of `rgb_to_i420`; chroma is that of the mean of two pixels of a row.

    Args:
        rgb: uint8 (h, w, 3), C-contiguous, w even.
        out: uint8 (h, 2 w), C-contiguous: Y0, U, Y1, V for each two pixels.
        rows: first and last (exclusive) of the h rows to do; by default all.

    Raises:
        ValueError: An array has the wrong shape or dtype.
    """
    height, width = check_image("rgb", rgb, (np.uint8,), 3)
    if width % 2:
        raise ValueError(f"rgb must be uint8 (h, w, 3) of even width, found {rgb.dtype} {rgb.shape}")
    check_output("out", out, np.uint8, (height, 2 * width), rgb=rgb)
    _rgb_to_yuyv(read_only(rgb), out, *check_rows(rows, height))


@kernel
def _rgb_to_yuyv(rgb: NDArray[np.uint8], out: NDArray[np.uint8], first: int, last: int) -> None:
    for i in range(first, last):
        source, line = rgb[i], out[i]
        for j in range(len(source) // 2):
            r, g, b = np.int32(source[2 * j, 0]), np.int32(source[2 * j, 1]), np.int32(source[2 * j, 2])
            line[4 * j] = np.uint8((np.int32(66 * r + 129 * g + 25 * b + 128) >> 8) + 16)
            r2, g2, b2 = np.int32(source[2 * j + 1, 0]), np.int32(source[2 * j + 1, 1]), np.int32(source[2 * j + 1, 2])
            line[4 * j + 2] = np.uint8((np.int32(66 * r2 + 129 * g2 + 25 * b2 + 128) >> 8) + 16)
            r, g, b = np.int32(r + r2), np.int32(g + g2), np.int32(b + b2)
            # Sums of two pixels: one bit more; 128 * 512 is the offset, 256 the rounding.
            line[4 * j + 1] = np.uint8(np.int32(112 * b - 38 * r - 74 * g + 65792) >> 9)
            line[4 * j + 3] = np.uint8(np.int32(112 * r - 94 * g - 18 * b + 65792) >> 9)
