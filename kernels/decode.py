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
    width = rgb.shape[1]
    planes = np.empty((2, 3, width), np.uint8)
    pairs = planes.view(np.uint16)
    for i in range(first, last):
        for y in range(2):
            _split(rgb[2 * i + y].reshape(3 * width), planes[y])
            _luma(planes[y], luma[2 * i + y])
        _chroma_of_four(pairs, chroma[0, i], chroma[1, i])


@kernel
def _split(pixels: NDArray[np.uint8], planes: NDArray[np.uint8]) -> None:
    """A row of pixels to a row of each colour: what follows then vectorises, and this does, too."""
    red, green, blue = planes[0], planes[1], planes[2]
    for j in range(len(red)):
        red[j] = pixels[3 * j]
        green[j] = pixels[3 * j + 1]
        blue[j] = pixels[3 * j + 2]


@kernel
def _luma(planes: NDArray[np.uint8], luma: NDArray[np.uint8]) -> None:
    red, green, blue = planes[0], planes[1], planes[2]
    for j in range(len(luma)):
        # At most 220 * 255 + 128: 16 bits.
        weighted = 66 * np.uint16(red[j]) + 129 * np.uint16(green[j]) + 25 * np.uint16(blue[j]) + 128
        luma[j] = np.uint8((np.uint16(weighted) >> 8) + 16)


@kernel
def _chroma_of_four(pairs: NDArray[np.uint16], u: NDArray[np.uint8], v: NDArray[np.uint8]) -> None:
    """U and V of the mean of 2x2 pixels, from two rows of the three colours, two pixels in each number.

    (112 B - 38 R - 74 G + 131584) >> 10 of the sums of four pixels (512 is the rounding, 128 * 1024 the offset) needs
    18 bits. All of it is even, and a quarter of it, rounded down, gives the same in 16 bits.
    """
    red, green, blue = pairs[0, 0], pairs[0, 1], pairs[0, 2]
    red2, green2, blue2 = pairs[1, 0], pairs[1, 1], pairs[1, 2]
    for j in range(len(u)):
        r = np.uint16((red[j] & 255) + (red[j] >> 8) + (red2[j] & 255) + (red2[j] >> 8))
        g = np.uint16((green[j] & 255) + (green[j] >> 8) + (green2[j] & 255) + (green2[j] >> 8))
        b = np.uint16((blue[j] & 255) + (blue[j] >> 8) + (blue2[j] & 255) + (blue2[j] >> 8))
        u[j] = np.uint8(np.uint16(28 * b + 32896 - (np.uint16(19 * r + 37 * g + 1) >> 1)) >> 8)
        v[j] = np.uint8(np.uint16(28 * r + 32896 - (np.uint16(47 * g + 9 * b + 1) >> 1)) >> 8)


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
    width = rgb.shape[1]
    planes, luma = np.empty((3, width), np.uint8), np.empty(width, np.uint8)
    pairs, luma_pairs = planes.view(np.uint16), luma.view(np.uint16)
    for i in range(first, last):
        _split(rgb[i].reshape(3 * width), planes)
        _luma(planes, luma)
        _write_yuyv(pairs, luma_pairs, out[i].view(np.uint32))


@kernel
def _write_yuyv(pairs: NDArray[np.uint16], luma: NDArray[np.uint16], line: NDArray[np.uint32]) -> None:
    """Two pixels at once: Y0, U, Y1, V are one number of 32 bits, the first byte the lowest.

    (112 B - 38 R - 74 G + 65792) >> 9 of the sums of two pixels (256 is the rounding, 128 * 512 the offset) is halved
    as in `_chroma_of_four`; its upper byte is where U and V belong.
    """
    red, green, blue = pairs[0], pairs[1], pairs[2]
    for j in range(len(line)):
        r = np.uint16((red[j] & 255) + (red[j] >> 8))
        g = np.uint16((green[j] & 255) + (green[j] >> 8))
        b = np.uint16((blue[j] & 255) + (blue[j] >> 8))
        u = np.uint16(56 * b + 32896 - np.uint16(19 * r + 37 * g)) & 0xFF00
        v = np.uint16(56 * r + 32896 - np.uint16(47 * g + 9 * b)) & 0xFF00
        line[j] = np.uint32((luma[j] & 255) | u) | np.uint32(np.uint32((luma[j] >> 8) | v) << 16)
