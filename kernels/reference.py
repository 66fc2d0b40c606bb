"""Plain NumPy references of the kernels: each kernel must equal its own bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.detect import HIGHEST_SIZE_LOGIT, sigmoid
from edge_isp.kernels.layout import CELL_PLANES, RawLayout, group, input_size
from edge_isp.kernels.residual import TONE_ENTRIES, scaled_matrix
from edge_isp.kernels.residual_codes import COARSE_STEP, FINE_STEP, MALVAR_CELLS, RESIDUAL_STEP, ROOT_WHITE
from edge_isp.kernels.tables import NODE_CELLS, STEP_BITS, Factors


def unpack(data: NDArray[np.uint8], layout: RawLayout) -> NDArray[np.uint16]:
    """See `kernels.unpack.unpack`."""
    rows = data[layout.top : layout.top + layout.height]
    return _unpack_rows(rows, layout.packing, layout.bit_depth, layout.left + layout.width)[:, layout.left :]


def _unpack_rows(rows: NDArray[np.uint8], packing: str, bit_depth: int, width: int) -> NDArray[np.uint16]:
    height = len(rows)
    if packing == "pisp-comp1":
        padded = -(-width // 8) * 8
        return decompress_pisp(rows[:, :padded])[:, :width]
    if bit_depth == 8 and packing in ("u8", "csi2p"):
        return rows[:, :width].astype(np.uint16)
    if packing == "csi2p":
        pixels, size = group(packing, bit_depth)
        groups = -(-width // pixels)
        low_bits = bit_depth - 8
        dtype: Any = np.uint16 if size - pixels == 1 else np.uint32
        cells: NDArray[Any] = rows[:, : groups * size].reshape(height, groups, size).astype(dtype)
        # The bytes after the high ones are one little-endian number that holds the low bits, pixel 0 lowest.
        low = cells[..., pixels:].copy()
        for byte in range(1, size - pixels):
            low[..., :1] |= low[..., byte, None] << dtype(8 * byte)
        shifts = np.arange(pixels, dtype=dtype) * dtype(low_bits)
        codes = (cells[..., :pixels] << dtype(low_bits)) | ((low[..., :1] >> shifts) & dtype(2**low_bits - 1))
        unpacked: NDArray[np.uint16] = codes.reshape(height, -1)[:, :width].astype(np.uint16)
        return unpacked
    low_bytes, high_bytes = rows[:, 0 : 2 * width : 2], rows[:, 1 : 2 * width : 2]
    words: NDArray[np.uint16] = (low_bytes.astype(np.uint16) | (high_bytes.astype(np.uint16) << 8)).astype(np.uint16)
    if packing == "u16-left":
        return (words >> (16 - bit_depth)).astype(np.uint16)
    right: NDArray[np.uint16] = np.minimum(words, 2**bit_depth - 1).astype(np.uint16)
    return right


def pisp_word(word: int) -> tuple[int, int, int, int]:
    """The four 16-bit codes of a 32-bit word of PiSP compression, mode 1, offset 2048; one word at a time."""
    mode = word & 3
    if mode == 3:
        first, second = (word >> 2) & 32767, (word >> 17) & 32767
        q0 = (first & 15) + 16 * ((first >> 8) // 11)
        q1 = (first >> 4) % 176
        q2 = (second & 15) + 16 * ((second >> 8) // 11)
        q3 = (second >> 4) % 176
    else:
        p0 = (word >> 2) & 511
        p1 = ((word >> 11) & 127) - 64
        p2 = (word >> 18) & 127
        p3 = (word >> 25) & 127
        if mode * p0 < 768:
            q1, q2 = max(p0, p0 - p1), max(p0, p0 + p1)
        else:
            q1, q2 = p0, p1 + 448
        limit = 1536 >> mode
        q0 = min(limit, max(0, q1 - 64)) + p2
        q3 = min(limit, max(0, q2 - 64)) + p3
    return pisp_code(q0, mode), pisp_code(q1, mode), pisp_code(q2, mode), pisp_code(q3, mode)


def pisp_code(q: int, mode: int) -> int:
    """The 16-bit code of a sample `q` of PiSP compression in quantisation mode `mode`."""
    value = max(256 * q, 512 * (q - 47)) if mode == 3 else max(16 * q, 32 * (q - 160), 64 * mode * q)
    return min(value + 2048, 65535)


def decompress_pisp(rows: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """PiSP-compressed rows (height, a multiple of 8) to codes of the same shape: whole arrays, as NumPy users do it."""
    words = np.ascontiguousarray(rows).view("<u4").astype(np.int32, casting="unsafe").reshape(len(rows), -1, 2)
    mode = words & 3
    p0 = (words >> 2) & 511
    p1 = ((words >> 11) & 127) - 64
    p2 = (words >> 18) & 127
    p3 = (words >> 25) & 127
    near = mode * p0 < 768
    q1 = np.where(near, np.maximum(p0, p0 - p1), p0)
    q2 = np.where(near, np.maximum(p0, p0 + p1), p1 + 448)
    limit = 1536 >> mode
    q0 = np.minimum(limit, np.maximum(0, q1 - 64)) + p2
    q3 = np.minimum(limit, np.maximum(0, q2 - 64)) + p3
    first, second = (words >> 2) & 32767, (words >> 17) & 32767
    coarse = mode == 3
    q0 = np.where(coarse, (first & 15) + 16 * ((first >> 8) // 11), q0)
    q1 = np.where(coarse, (first >> 4) % 176, q1)
    q2 = np.where(coarse, (second & 15) + 16 * ((second >> 8) // 11), q2)
    q3 = np.where(coarse, (second >> 4) % 176, q3)
    codes = np.empty((len(rows), words.shape[1], 4, 2), np.uint16)
    for place, q in enumerate((q0, q1, q2, q3)):
        fine = np.maximum(np.maximum(16 * q, 32 * (q - 160)), 64 * mode * q)
        value = np.where(coarse, np.maximum(256 * q, 512 * (q - 47)), fine)
        codes[:, :, place] = np.minimum(value + 2048, 65535)
    return codes.reshape(len(rows), -1)


def planes(codes: NDArray[np.uint16], cfa: str) -> NDArray[np.uint16]:
    """A mosaic (height, width) as cells (height / 2, width / 2, 4) in the order R, Gr, Gb, B."""
    out = np.empty((codes.shape[0] // 2, codes.shape[1] // 2, 4), codes.dtype)
    for place, plane in enumerate(CELL_PLANES[cfa]):
        y, x = divmod(place, 2)
        out[..., plane] = codes[y::2, x::2]
    return out


def encode(
    data: NDArray[np.uint8],
    layout: RawLayout,
    *,
    tables: NDArray[Any],
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
    constants: NDArray[Any] | None = None,
    cell: int = 2,
    multiple: int = 1,
) -> NDArray[Any]:
    """See `kernels.encode.encode`."""
    cells = planes(unpack(data, layout), layout.cfa)
    out = np.empty((*cells.shape[:2], 4 if constants is None else 8), tables.dtype)
    for plane in range(4):
        out[..., plane] = tables[plane, cells[..., plane]]
    if constants is not None:
        out[..., 4:] = constants
    return on_cells(_flipped(out, flip_vertical, flip_horizontal), cell, multiple)


def on_cells(array: NDArray[Any], cell: int, multiple: int) -> NDArray[Any]:
    """An input on 2x2 cells as one on larger cells, mirrored beyond its size; see `kernels.cells`.

    Args:
        array: (h, w, 4), or with the noise (h, w, 8).
        cell: side in pixels of the cells to make, 2 or 4.
        multiple: what their rows and columns are a multiple of.
    """
    height, width, channels = array.shape
    rows, columns = input_size(2 * width, 2 * height, cell=cell, multiple=multiple)
    side = cell // 2
    margins = ((0, side * rows - height), (0, side * columns - width), (0, 0))
    padded = np.pad(array, margins, mode="symmetric")
    if side == 1:
        return padded
    blocks = padded.reshape(rows, 2, columns, 2, channels)
    colours = blocks[..., :4].transpose(0, 2, 4, 1, 3).reshape(rows, columns, 16)
    return np.concatenate([colours, blocks[:, 0, :, 0, 4:]], 2)


def encode_shaded(
    data: NDArray[np.uint8],
    layout: RawLayout,
    *,
    tables: NDArray[np.uint16],
    factors: Factors,
    zero_point: int,
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
    constants: NDArray[np.uint16] | None = None,
    cell: int = 2,
    multiple: int = 1,
) -> NDArray[np.int8]:
    """See `kernels.shaded.encode_shaded`."""
    steps = encode(
        data,
        layout,
        tables=tables,
        flip_vertical=flip_vertical,
        flip_horizontal=flip_horizontal,
        constants=constants,
    )
    height, width = steps.shape[:2]
    across = _between_nodes(factors.nodes.swapaxes(0, 1), width).swapaxes(0, 1)
    spread = Factors(_between_nodes(across, height), factors.bits)
    planes = [shade(steps[..., first : first + 4], spread, zero_point) for first in range(0, steps.shape[2], 4)]
    return on_cells(np.concatenate(planes, axis=2), cell, multiple)


def _between_nodes(nodes: NDArray[np.uint16], count: int) -> NDArray[np.uint16]:
    """Along the first axis, the values at the centres of `count` cells, linear between the nodes, rounded."""
    band, cell = np.divmod(np.arange(count), NODE_CELLS)
    share = (2 * cell + 1).reshape(-1, *[1] * (nodes.ndim - 1))
    wide = nodes.astype(np.int64)
    weighted = wide[band] * (2 * NODE_CELLS - share) + wide[band + 1] * share
    between: NDArray[np.uint16] = ((weighted + NODE_CELLS) // (2 * NODE_CELLS)).astype(np.uint16)
    return between


def shade(steps: NDArray[np.uint16], factors: Factors, zero_point: int) -> NDArray[np.int8]:
    """Steps of `tables.step_table` times factors, as an int8 input: the arithmetic that training shares.

    The product is cut off at 16 bits, rounded to whole values (halves upwards), limited and moved to the zero point.

    Args:
        steps: any shape; see `kernels.tables.step_table`.
        factors: their nodes have a shape that the steps' is broadcast with: a factor for each step.
        zero_point: of the input.
    """
    shift = STEP_BITS + factors.bits - 16
    products = steps.astype(np.int64) * factors.nodes >> 16
    values = (products + (1 << (shift - 1))) >> shift
    shaded: NDArray[np.int8] = (np.minimum(values, 127 - zero_point) + zero_point).astype(np.int8)
    return shaded


def encode_resampled(
    data: NDArray[np.uint8],
    shape: tuple[int, int],
    layout: RawLayout,
    *,
    tables: NDArray[Any],
    border: float = 0,
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
    second_column: bool = False,
) -> NDArray[Any]:
    """See `kernels.resample.encode_resampled`; `shape` is that of `out`, without the planes."""
    codes, cfa = unpack(data, layout), layout.cfa
    if second_column:
        codes, cfa = codes[:, 1:-1], cfa[1] + cfa[0] + cfa[3] + cfa[2]
    cells = planes(codes, cfa).astype(np.float32)
    scale = min(shape[0] / cells.shape[0], shape[1] / cells.shape[1], 1)
    height, width = max(1, round(cells.shape[0] * scale)), max(1, round(cells.shape[1] * scale))
    means = _area_average(np.float32(0), cells, height)
    # The rounding's half is added first: sums of float32 depend on their order.
    means = _area_average(np.float32(0.5), means.swapaxes(0, 1), width).swapaxes(0, 1)
    rounded = np.minimum(means, np.float32(tables.shape[1] - 1)).astype(np.int64)
    picture = np.empty(rounded.shape, tables.dtype)
    for plane in range(4):
        picture[..., plane] = tables[plane][rounded[..., plane]]
    out = np.full((*shape, 4), border, tables.dtype)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    out[top : top + height, left : left + width] = _flipped(picture, flip_vertical, flip_horizontal)
    return out


def _area_average(start: np.float32, values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """`start` plus the means of `count` equal parts of the first axis, where a part may cover values in part."""
    out = np.full((count, *values.shape[1:]), start, np.float32)
    size = len(values)
    for part in range(count):
        # In units of 1 / count of a value all edges are whole numbers.
        begin, end = part * size, (part + 1) * size
        for index in range(begin // count, -(-end // count)):
            covered = min(end, (index + 1) * count) - max(begin, index * count)
            out[part] += np.float32(covered / size) * values[index]
    return out


def _flipped(array: NDArray[Any], vertical: bool, horizontal: bool) -> NDArray[Any]:
    return array[:: -1 if vertical else 1, :: -1 if horizontal else 1]


def decode_rgb(
    planes: NDArray[Any],
    table: NDArray[np.uint8],
    *,
    bgr: bool = False,
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
) -> NDArray[np.uint8]:
    """See `kernels.decode.decode_rgb`."""
    height, width, _ = planes.shape
    values = table[planes.astype(np.int16) - np.iinfo(planes.dtype).min]
    picture = values.reshape(height, width, 2, 2, 3).transpose(0, 2, 1, 3, 4).reshape(2 * height, 2 * width, 3)
    picture = _flipped(picture, flip_vertical, flip_horizontal)
    return picture[..., ::-1] if bgr else picture


def decode_residual(
    planes: NDArray[np.int8],
    encoded: NDArray[np.int8],
    *,
    matrix: NDArray[np.float64],
    tone: NDArray[np.uint8],
    size: tuple[int, int] | None = None,
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
) -> NDArray[np.uint8]:
    """See `kernels.residual.decode_residual`; `size` is the picture's height and width, None for all of the cells."""
    if planes.shape[2] == 48:
        planes, encoded = on_2x2(planes), on_2x2(encoded[..., :16])
    height, width, _ = planes.shape
    values = np.pad(encoded[..., :4].astype(np.int64) + 128, ((1, 1), (1, 1), (0, 0)), mode="edge")
    roots = np.zeros((height, width, 12), np.int64)
    for plane, kernel in enumerate(MALVAR_CELLS.astype(np.int64)):
        for (source, y, x), weight in np.ndenumerate(kernel):
            roots[..., plane] += weight * values[y : y + height, x : x + width, source]
    residual = planes.astype(np.int64) * RESIDUAL_STEP
    if planes.shape[2] == 24:
        fine, coarse = planes[..., :12].astype(np.int64), planes[..., 12:].astype(np.int64)
        residual = np.where(np.abs(fine) >= 127, coarse * COARSE_STEP, fine * FINE_STEP)
    light = (np.clip(roots + residual, 0, ROOT_WHITE).astype(np.float32) ** 2).reshape(height, width, 2, 2, 3)
    m = scaled_matrix(matrix)
    steps = [m[c, 0] * light[..., 0] + m[c, 1] * light[..., 1] + m[c, 2] * light[..., 2] for c in range(3)]
    indices = (np.clip(np.stack(steps, -1), 0, TONE_ENTRIES - 1) + np.float32(0.5)).astype(np.int64)
    picture = tone[indices].transpose(0, 2, 1, 3, 4).reshape(2 * height, 2 * width, 3)
    if size is not None:
        picture = picture[: size[0], : size[1]]
    return _flipped(picture, flip_vertical, flip_horizontal)


def on_2x2(array: NDArray[Any]) -> NDArray[Any]:
    """Planes of 4x4 cells as those of 2x2 cells, (2 * rows, 2 * columns, planes / 4).

    Args:
        array: (rows, columns, planes), see `kernels.cells`.
    """
    rows, columns, channels = array.shape
    blocks = array.reshape(rows, columns, channels // 4, 2, 2)
    return blocks.transpose(0, 3, 1, 4, 2).reshape(2 * rows, 2 * columns, channels // 4)


def rgb_to_i420(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """See `kernels.decode.rgb_to_i420`."""
    height, width, _ = rgb.shape
    pixels = rgb.astype(np.int32)
    luma = ((pixels @ np.array([66, 129, 25]) + 128) >> 8) + 16
    sums = pixels.reshape(height // 2, 2, width // 2, 2, 3).sum((1, 3))
    chroma = [(sums @ np.array(weights) + 128 * 1024 + 512) >> 10 for weights in ((-38, -74, 112), (112, -94, -18))]
    return np.concatenate([part.ravel() for part in (luma, *chroma)]).reshape(-1, width).astype(np.uint8)


def rgb_to_yuyv(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """See `kernels.decode.rgb_to_yuyv`."""
    height, width, _ = rgb.shape
    pixels = rgb.astype(np.int32)
    out = np.empty((height, width // 2, 4), np.uint8)
    out[..., ::2] = (((pixels @ np.array([66, 129, 25]) + 128) >> 8) + 16).reshape(height, width // 2, 2)
    sums = pixels.reshape(height, width // 2, 2, 3).sum(2)
    for channel, weights in ((1, (-38, -74, 112)), (3, (112, -94, -18))):
        out[..., channel] = (sums @ np.array(weights) + 128 * 512 + 256) >> 9
    return out.reshape(height, 2 * width)


def statistics(
    data: NDArray[np.uint8],
    layout: RawLayout,
    *,
    black_level: Sequence[float],
    white_level: float,
    clipped: float,
    step: int = 8,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """Histograms, means, clipped shares and grey-world gains; see `kernels.statistics.statistics`."""
    cells = planes(unpack(data, layout), layout.cfa)[::step].reshape(-1, 4)
    black = np.asarray(black_level, np.float64)
    light = (cells - black) / (white_level - black)
    lost = cells >= np.ceil(black + clipped * (white_level - black))
    shift = layout.bit_depth - 8
    histograms = np.stack([np.bincount(cells[:, plane] >> shift, minlength=256) for plane in range(4)])
    usable = light[~lost.any(1)]
    gains = (1.0, 1.0)
    if len(usable):
        red, green_red, green_blue, blue = usable.mean(0)
        green = (green_red + green_blue) / 2
        if min(red, green, blue) > 0:
            gains = (float(green / red), float(green / blue))
    return histograms, cells.mean(0), lost.mean(0), gains


def block_statistics(
    data: NDArray[np.uint8], layout: RawLayout, *, limits: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means, clipped shares and noise of blocks; see `kernels.blocks.block_statistics`."""
    cells = planes(unpack(data, layout), layout.cfa).astype(np.float64)
    height, width = min(8, cells.shape[0]), min(8, cells.shape[1])
    rows, columns = cells.shape[0] // height, cells.shape[1] // width
    looked_at = np.arange(min(rows, 32)) * rows // min(rows, 32)
    blocks = cells[: rows * height, : columns * width].reshape(rows, height, columns, width, 4)[looked_at]
    steps = np.diff(blocks[..., 1] - blocks[..., 2], axis=3)
    with np.errstate(invalid="ignore"):
        noise = (steps**2).sum(axis=(1, 3)) / (4 * height * (width - 1))
    clipped = (blocks >= np.ceil(limits)).any(axis=4).mean(axis=(1, 3))
    return blocks.mean(axis=(1, 3)), clipped, noise


# Malvar-He-Cutler's filters in sixteenths: green at red or blue; red at green in red's row, or blue in blue's (red at
# green in blue's row, or blue in red's, is its transpose); red at blue, or blue at red.
_MALVAR_GREEN = [[0, 0, -2, 0, 0], [0, 0, 4, 0, 0], [-2, 4, 8, 4, -2], [0, 0, 4, 0, 0], [0, 0, -2, 0, 0]]
_MALVAR_BESIDE = [[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]]
_MALVAR_ACROSS = [[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]]
_BILINEAR_GREEN = [[0, 0, 0, 0, 0], [0, 0, 4, 0, 0], [0, 4, 0, 4, 0], [0, 0, 4, 0, 0], [0, 0, 0, 0, 0]]
_BILINEAR_BESIDE = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 8, 0, 8, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
_BILINEAR_ACROSS = [[0, 0, 0, 0, 0], [0, 4, 0, 4, 0], [0, 0, 0, 0, 0], [0, 4, 0, 4, 0], [0, 0, 0, 0, 0]]
_FILTERS = {
    "malvar": (_MALVAR_GREEN, _MALVAR_BESIDE, _MALVAR_ACROSS),
    "bilinear": (_BILINEAR_GREEN, _BILINEAR_BESIDE, _BILINEAR_ACROSS),
}


def demosaic_codes(codes: NDArray[np.uint16], cfa: str, method: str, highest: int) -> NDArray[np.uint16]:
    """RGB (height, width, 3) of a mosaic; see `kernels.demosaic.demosaic`."""
    height, width = codes.shape
    mirrored = np.pad(codes.astype(np.int64), 2, mode="reflect")
    green, beside, across = (np.array(taps) for taps in _FILTERS[method])

    def filtered(taps: NDArray[np.int64]) -> NDArray[np.int64]:
        parts = [taps[y, x] * mirrored[y : y + height, x : x + width] for y in range(5) for x in range(5)]
        clipped: NDArray[np.int64] = np.clip((np.sum(parts, axis=0) + 8) >> 4, 0, highest)
        return clipped

    out = np.empty((height, width, 3), np.uint16)
    cell = np.array(["RGB".index(letter) for letter in cfa]).reshape(2, 2)
    for y in range(2):
        for x in range(2):
            here = cell[y, x]
            for colour in range(3):
                values: NDArray[np.integer[Any]]
                if colour == here:
                    values = codes
                elif colour == 1:
                    values = filtered(green)
                elif here == 1:
                    values = filtered(beside if cell[y, 1 - x] == colour else beside.T)
                else:
                    values = filtered(across)
                out[y::2, x::2, colour] = values[y::2, x::2]
    return out


def demosaic(data: NDArray[np.uint8], layout: RawLayout, *, method: str = "malvar") -> NDArray[np.uint16]:
    """See `kernels.demosaic.demosaic`."""
    return demosaic_codes(unpack(data, layout), layout.cfa, method, layout.highest)


def develop(
    data: NDArray[np.uint8],
    layout: RawLayout,
    *,
    tables: NDArray[np.uint16],
    matrix: NDArray[np.floating[Any]],
    tone: NDArray[np.uint8],
    linear_white: int,
    method: str = "malvar",
) -> NDArray[np.uint8]:
    """See `kernels.demosaic.develop`."""
    codes = unpack(data, layout)
    linear = np.empty_like(codes)
    for place, plane in enumerate(CELL_PLANES[layout.cfa]):
        y, x = divmod(place, 2)
        linear[y::2, x::2] = tables[plane][codes[y::2, x::2]]
    rgb = demosaic_codes(linear, layout.cfa, method, linear_white).astype(np.float32)
    weights = (np.asarray(matrix) * ((len(tone) - 1) / linear_white)).astype(np.float32)
    red, green, blue = rgb[..., 0, None], rgb[..., 1, None], rgb[..., 2, None]
    mixed = weights[:, 0] * red + weights[:, 1] * green + weights[:, 2] * blue + np.float32(0.5)
    picture: NDArray[np.uint8] = tone[np.clip(mixed, 0, len(tone) - 1).astype(np.int64)]
    return picture


def detect(
    outputs: Sequence[tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int8]]],
    quantisation: Sequence[tuple[int, tuple[float, int], tuple[float, int], tuple[float, int]]],
    *,
    confidence: float,
    iou_threshold: float,
    max_detections: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """See `kernels.detect.detect`; `quantisation` holds for each level its stride, and scale and zero point of box,
    objectness and class logits.
    """
    boxes, scores, class_ids = [], [], []
    for level, (stride, *pairs) in zip(outputs, quantisation, strict=True):
        box, objectness, classes = (
            (codes.astype(np.float64) - zero_point) * scale
            for codes, (scale, zero_point) in zip(level, pairs, strict=True)
        )
        height, width, _ = box.shape
        cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32) * np.float32(stride)
        centre = (box[..., :2] * stride).astype(np.float32) + cells
        size = (np.exp(np.minimum(box[..., 2:], HIGHEST_SIZE_LOGIT)) * stride).astype(np.float32)
        score = sigmoid(objectness[..., 0]) * sigmoid(classes.max(2))
        found = score >= np.float32(confidence)
        boxes.append(np.concatenate([centre - size / 2, centre + size / 2], 2)[found])
        scores.append(score[found])
        class_ids.append(level[2].argmax(2)[found])
    every_box, every_score = np.concatenate(boxes), np.concatenate(scores)
    every_class = np.concatenate(class_ids).astype(np.int32)
    kept = suppress(every_box, every_score, every_class, iou_threshold=iou_threshold, max_detections=max_detections)
    return every_box[kept], every_score[kept], every_class[kept]


def suppress(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int32],
    *,
    iou_threshold: float,
    max_detections: int,
) -> NDArray[np.int64]:
    """See `kernels.detect.suppress`: takes the best box, strikes out those of its class that overlap it, and again."""
    remaining = np.argsort(-scores, kind="stable")
    x0, y0, x1, y1 = boxes.astype(np.float64).T
    areas = (x1 - x0) * (y1 - y0)
    kept: list[int] = []
    while len(remaining) and len(kept) < max_detections:
        best, others = remaining[0], remaining[1:]
        kept.append(int(best))
        widths = np.minimum(x1[best], x1[others]) - np.maximum(x0[best], x0[others])
        heights = np.minimum(y1[best], y1[others]) - np.maximum(y0[best], y0[others])
        touching = (widths > 0) & (heights > 0)
        shared = np.where(touching, widths * heights, 0)
        union = np.where(touching, areas[best] + areas[others] - shared, 1)
        struck = (shared / union > iou_threshold) & (class_ids[others] == class_ids[best])
        remaining = others[~struck]
    return np.array(kept, np.int64)
