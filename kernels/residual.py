"""The output of a calibrated network to a picture: demosaicing plus residual, colour matrix, tone curve.

The network's input, in the square-root domain, is demosaiced linearly (Malvar-He-Cutler, "High-quality linear
interpolation for demosaicing of Bayer-patterned color images", ICASSP 2004); the network's output is the correction
(residual). Their sum, squared, is white-balanced camera colour in linear light: the sensor's colour matrix and a tone
curve make the picture of it. Beyond the borders the outermost cells are repeated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_array, check_image, check_matrix, check_output, check_rows
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import input_size, read_only
from edge_isp.kernels.residual_codes import COARSE_STEP, FINE_STEP, RESIDUAL_STEP, ROOT_WHITE

# Entries of a tone table: steps of linear light fine enough for the steep foot of sRGB's curve.
TONE_ENTRIES = 16384


def decode_residual(
    planes: NDArray[np.int8],
    encoded: NDArray[np.int8],
    out: NDArray[np.uint8],
    *,
    matrix: NDArray[np.floating[Any]],
    tone: NDArray[np.uint8],
    cell: int = 2,
    multiple: int = 1,
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
    rows: tuple[int, int] | None = None,
) -> None:
    """A calibrated network's output and its input to an RGB picture.

    Cells of 2x2 pixels: plane (2 * y + x) * 3 + colour of the output holds that colour of the pixel (y, x). With 24
    planes the first twelve count in steps of 1/1020 of white's root; where one is at an end of its range (-127 or less,
    or 127), the plane twelve further holds the residual, in steps of 1/255. Cells of 4x4: plane 4 * p + 2 * y + x is
    the plane p of those of the 2x2 cell (y, x).

    Args:
        planes: int8 (h, w, 12), C-contiguous: the residual in steps of 1/510 of white's root; or (h, w, 24) in fine
            and coarse steps; for cells of 4x4 pixels (h, w, 48).
        encoded: int8 (h, w, 4 or more), C-contiguous: the network's input, of scale 1 / 255 and zero point -128, planes
            R, Gr, Gb, B first, as `kernels.encode` arranges them; for cells of 4x4 pixels (h, w, 16 or more).
        out: uint8 (height, width, 3), C-contiguous, even; what the cells hold beyond it is cut off.
        matrix: 3x3, white-balanced camera colour to linear RGB.
        tone: uint8 (TONE_ENTRIES,): the picture's value for linear light in equal steps from 0 to white.
        cell: side of a cell in pixels, 2 or 4.
        multiple: what the rows and columns of the planes are a multiple of; see `kernels.layout.input_size`.
        flip_vertical: make the first row of the planes the last of the picture.
        flip_horizontal: make the first column of the planes the last of the picture.
        rows: first and last (exclusive) row of planes to do; by default all.

    Raises:
        ValueError: An array has the wrong shape or dtype, or the matrix is not 3x3 finite numbers.
    """
    in_two = cell == 2 and isinstance(planes, np.ndarray) and planes.ndim == 3 and planes.shape[2] == 24
    height, width = check_image("planes", planes, (np.int8,), 24 if in_two else 3 * cell * cell)
    if check_image("encoded", encoded, (np.int8,)) != (height, width) or encoded.shape[2] < cell * cell:
        raise ValueError(
            f"encoded must be int8 ({height}, {width}, {cell * cell} or more), found {encoded.dtype} {encoded.shape}"
        )
    check_array("tone", tone, np.uint8, (TONE_ENTRIES,))
    check_output(
        "out",
        out,
        np.uint8,
        _picture_shape(out, height, width, cell, multiple),
        planes=planes,
        encoded=encoded,
        tone=tone,
    )
    first, last = check_rows(rows, height)
    scaled = scaled_matrix(matrix)
    if first == last:  # the kernel reads the row below the first one in any case
        return
    _decode_residual(
        read_only(planes),
        read_only(encoded),
        out,
        read_only(scaled),
        read_only(tone),
        cell // 2,
        (flip_vertical, flip_horizontal),
        (first, last),
    )


def _picture_shape(out: NDArray[Any], height: int, width: int, cell: int, multiple: int) -> tuple[int, int, int]:
    """The shape that a picture must have: its own where its size is even and takes these rows and columns of cells."""
    if isinstance(out, np.ndarray) and out.ndim == 3:
        rows, columns = out.shape[:2]
        even = not (rows % 2 or columns % 2)
        if even and input_size(columns, rows, cell=cell, multiple=multiple) == (height, width):
            return rows, columns, 3
    return cell * height, cell * width, 3


def scaled_matrix(matrix: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """A colour matrix that takes squares of `ROOT_WHITE` to steps of a tone table.

    Args:
        matrix: 3x3, white-balanced camera colour to linear RGB.

    Raises:
        ValueError: The matrix is not 3x3 finite numbers.
    """
    return (check_matrix(matrix) * ((TONE_ENTRIES - 1) / ROOT_WHITE**2)).astype(np.float32)


@kernel
def _decode_residual(
    planes: NDArray[np.int8],
    encoded: NDArray[np.int8],
    out: NDArray[np.uint8],
    matrix: NDArray[np.float32],
    tone: NDArray[np.uint8],
    side: int,
    flips: tuple[bool, bool],
    rows: tuple[int, int],
) -> None:
    """`side` is that of a cell of `planes`, in 2x2 cells; so are the heights and widths below."""
    height, width, padded = out.shape[0] // 2, out.shape[1] // 2, side * planes.shape[1]
    words = planes.view(np.int32)
    # Three rows of cells, plane by plane, with the outermost cells once more at either end.
    ring = np.empty((3, 4, padded + 2), np.int16)
    word = np.empty(planes.shape[1], np.int32)
    # Of the rows of 2x2 cells in a row of cells.
    residual = np.empty((side, 12, padded), np.int16)
    coarse = np.empty((4, padded), np.int16)
    roots = np.empty((12, padded), np.int16)
    begin, end = side * rows[0], min(side * rows[1], height)
    for k in range(2):
        _fill(encoded, max(begin - 1 + k, 0), side, ring[(begin + k) % 3])
    for i in range(begin, end):
        _fill(encoded, min(i + 1, side * len(planes) - 1), side, ring[(i + 2) % 3])
        if side == 1:
            in_two = words.shape[2] == 6
            for k in range(3):
                step = np.int16(FINE_STEP if in_two else RESIDUAL_STEP)
                _take_apart(words[i], k, step, word, residual[0, 4 * k : 4 * k + 4])
                if in_two:
                    _take_apart(words[i], 3 + k, np.int16(COARSE_STEP), word, coarse)
                    _choose(residual[0, 4 * k : 4 * k + 4], coarse)
        elif i % 2 == 0:
            for plane in range(12):
                _take_apart_4x4(words[i // 2], plane, word, residual)
        _demosaic(ring[i % 3], ring[(i + 1) % 3], ring[(i + 2) % 3], roots)
        for pixel in range(4):
            _develop(roots[3 * pixel : 3 * pixel + 3], residual[i % side, 3 * pixel : 3 * pixel + 3], matrix)
        for y in range(2):
            line = out[2 * height - 1 - 2 * i - y] if flips[0] else out[2 * i + y]
            _write(roots[6 * y : 6 * y + 6, :width], tone, line, flips[1])


@kernel
def _fill(encoded: NDArray[np.int8], row: int | np.int64, side: int, planes: NDArray[np.int16]) -> None:
    """A row of 2x2 cells, plane by plane."""
    cells = encoded[row // side]
    width = side * len(cells)
    for plane in range(4):
        line = planes[plane]
        if side == 1:
            for j in range(width):
                line[j + 1] = np.int16(cells[j, plane]) + np.int16(128)
        else:
            first = 4 * plane + row % 2 * 2
            for j in range(len(cells)):
                line[2 * j + 1] = np.int16(cells[j, first]) + np.int16(128)
                line[2 * j + 2] = np.int16(cells[j, first + 1]) + np.int16(128)
        line[0], line[width + 1] = line[1], line[width]


@kernel
def _take_apart(
    words: NDArray[np.int32], k: int, step: np.int16, word: NDArray[np.int32], residual: NDArray[np.int16]
) -> None:
    """Residual of the k-th group of four codes of each cell; first groups, then codes, are taken apart: both
    vectorise."""
    for j in range(len(word)):
        word[j] = words[j, k]
    codes = word.view(np.int8).reshape(len(word), 4)
    first, second, third, fourth = residual[0], residual[1], residual[2], residual[3]
    for j in range(len(codes)):
        first[j] = np.int16(codes[j, 0]) * step
        second[j] = np.int16(codes[j, 1]) * step
        third[j] = np.int16(codes[j, 2]) * step
        fourth[j] = np.int16(codes[j, 3]) * step


@kernel
def _choose(fine: NDArray[np.int16], coarse: NDArray[np.int16]) -> None:
    """The coarse residual in the place of each fine one that is at an end of its range."""
    end = np.int16(127 * FINE_STEP)
    for k in range(4):
        fine_line, coarse_line = fine[k], coarse[k]
        for j in range(len(fine_line)):
            value = fine_line[j]
            fine_line[j] = coarse_line[j] if value >= end or value <= -end else value


@kernel
def _take_apart_4x4(words: NDArray[np.int32], plane: int, word: NDArray[np.int32], residual: NDArray[np.int16]) -> None:
    """Residual of one plane of 12 for the 2x2 cells in a row of 4x4 cells: a word holds those of one cell."""
    for j in range(len(word)):
        word[j] = words[j, plane]
    codes = word.view(np.int8).reshape(len(word), 4)
    upper, lower = residual[0, plane], residual[1, plane]
    for j in range(len(codes)):
        upper[2 * j] = np.int16(codes[j, 0]) * np.int16(RESIDUAL_STEP)
        upper[2 * j + 1] = np.int16(codes[j, 1]) * np.int16(RESIDUAL_STEP)
        lower[2 * j] = np.int16(codes[j, 2]) * np.int16(RESIDUAL_STEP)
        lower[2 * j + 1] = np.int16(codes[j, 3]) * np.int16(RESIDUAL_STEP)


@kernel
def _demosaic(
    above: NDArray[np.int16], here: NDArray[np.int16], below: NDArray[np.int16], roots: NDArray[np.int16]
) -> None:
    """Sixteenths of the 12 planes of one row of cells."""
    width = roots.shape[1]
    red, green_red, green_blue, blue = here[0], here[1], here[2], here[3]
    red_above, red_below = above[0], below[0]
    green_red_above, green_red_below = above[1], below[1]
    green_blue_above, green_blue_below = above[2], below[2]
    blue_above, blue_below = above[3], below[3]
    for j in range(width):
        left, c, right = j, j + 1, j + 2
        own = red[c]
        far = np.int16(red[left] + red[right] + red_above[c] + red_below[c])
        roots[0, j] = np.int16(own << 4)
        roots[1, j] = _green(np.int16(green_red[left] + green_red[c] + green_blue_above[c] + green_blue[c]), own, far)
        roots[2, j] = _diagonal(np.int16(blue_above[left] + blue_above[c] + blue[left] + blue[c]), own, far)
    for j in range(width):
        left, c, right = j, j + 1, j + 2
        own = blue[c]
        far = np.int16(blue[left] + blue[right] + blue_above[c] + blue_below[c])
        roots[9, j] = _diagonal(np.int16(red[c] + red[right] + red_below[c] + red_below[right]), own, far)
        roots[10, j] = _green(np.int16(green_blue[c] + green_blue[right] + green_red[c] + green_red_below[c]), own, far)
        roots[11, j] = np.int16(own << 4)
    for j in range(width):
        left, c, right = j, j + 1, j + 2
        own = green_red[c]
        diagonal = np.int16(green_blue_above[c] + green_blue_above[right] + green_blue[c] + green_blue[right])
        beside = np.int16(green_red[left] + green_red[right])
        over = np.int16(green_red_above[c] + green_red_below[c])
        roots[3, j] = _along(np.int16(red[c] + red[right]), own, np.int16(diagonal + beside), over)
        roots[4, j] = np.int16(own << 4)
        roots[5, j] = _along(np.int16(blue_above[c] + blue[c]), own, np.int16(diagonal + over), beside)
    for j in range(width):
        left, c, right = j, j + 1, j + 2
        own = green_blue[c]
        diagonal = np.int16(green_red[left] + green_red[c] + green_red_below[left] + green_red_below[c])
        beside = np.int16(green_blue[left] + green_blue[right])
        over = np.int16(green_blue_above[c] + green_blue_below[c])
        roots[6, j] = _along(np.int16(red[c] + red_below[c]), own, np.int16(diagonal + over), beside)
        roots[7, j] = np.int16(own << 4)
        roots[8, j] = _along(np.int16(blue[left] + blue[c]), own, np.int16(diagonal + beside), over)


@kernel(inline="always")
def _green(neighbours: np.int16, own: np.int16, far: np.int16) -> np.int16:
    """Sixteenths of green at red or blue: four neighbours, and the own colour two pixels away."""
    return np.int16((neighbours << 2) + (own << 3) - (far << 1))


@kernel(inline="always")
def _along(neighbours: np.int16, own: np.int16, minus: np.int16, plus: np.int16) -> np.int16:
    """Sixteenths of red or blue at green: two neighbours, less the diagonal greens and those two pixels further along
    (minus), and the greens two pixels across (plus)."""
    return np.int16((neighbours << 3) + 10 * own - (minus << 1) + plus)


@kernel(inline="always")
def _diagonal(neighbours: np.int16, own: np.int16, far: np.int16) -> np.int16:
    """Sixteenths of red at blue, or of blue at red."""
    return np.int16((neighbours << 2) + 12 * own - 3 * far)


@kernel
def _develop(roots: NDArray[np.int16], residual: NDArray[np.int16], matrix: NDArray[np.float32]) -> None:
    """Roots of camera colour to steps of the tone table, in place."""
    red, green, blue = roots[0], roots[1], roots[2]
    residual_red, residual_green, residual_blue = residual[0], residual[1], residual[2]
    m00, m01, m02 = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    m10, m11, m12 = matrix[1, 0], matrix[1, 1], matrix[1, 2]
    m20, m21, m22 = matrix[2, 0], matrix[2, 1], matrix[2, 2]
    for j in range(len(red)):
        r = np.float32(min(max(np.int16(red[j] + residual_red[j]), np.int16(0)), np.int16(ROOT_WHITE)))
        g = np.float32(min(max(np.int16(green[j] + residual_green[j]), np.int16(0)), np.int16(ROOT_WHITE)))
        b = np.float32(min(max(np.int16(blue[j] + residual_blue[j]), np.int16(0)), np.int16(ROOT_WHITE)))
        r, g, b = r * r, g * g, b * b
        red[j] = _step(m00 * r + m01 * g + m02 * b)
        green[j] = _step(m10 * r + m11 * g + m12 * b)
        blue[j] = _step(m20 * r + m21 * g + m22 * b)


@kernel(inline="always")
def _step(light: np.float32) -> np.int16:
    clamped = min(max(light, np.float32(0)), np.float32(TONE_ENTRIES - 1))
    return np.int16(np.int32(clamped + np.float32(0.5)))


@kernel
def _write(steps: NDArray[np.int16], tone: NDArray[np.uint8], line: NDArray[np.uint8], mirror: bool) -> None:
    end = len(line) - 1
    for j in range(steps.shape[1]):
        for x in range(2):
            target = end - 2 * j - x if mirror else 2 * j + x
            for colour in range(3):
                line[target, colour] = tone[steps[3 * x + colour, j]]
