"""What a sensor does, fast enough for a camera: light of a scene to packed RAW bytes with noise, row by row.

`edge_isp.calibration.simulation.SensorModel` is the exact model, which training uses. This one agrees with it in mean
and variance, and takes a normal distribution for the photons' Poisson distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_array, check_image, check_whole
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import CELL_PLANES, RawLayout, row_bytes

# Entries of the table of normal deviates: as many as 15 random bits can tell apart.
_DEVIATES = 1 << 15
# Red, green or blue of R, Gr, Gb and B.
_COLOUR = (0, 1, 1, 2)
_PIXELS_PER_GROUP = 4  # one random number of 64 bits serves four pixels


@dataclass(frozen=True, slots=True)
class View:
    """The rectangle of the scene that the frame shows, in the scene's pixels.

    Attributes:
        x: left edge.
        y: upper edge.
        width: of the rectangle.
        height: of the rectangle.
    """

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class PixelErrors:
    """How the pixels of one specimen of a sensor differ from the ideal, and which are defective.

    Attributes:
        response: float32 (height, width), factor on the light of each pixel; (0, 0) for an ideal sensor.
        defects: int32 (n, 2), row and column of defective pixels, sorted by row.
        defect_response: float32 (n,), factor on the light of each defective pixel.
        defect_offset: float32 (n,), light that each defective pixel shows in the dark.
    """

    response: NDArray[np.float32]
    defects: NDArray[np.int32]
    defect_response: NDArray[np.float32]
    defect_offset: NDArray[np.float32]


def ideal_pixels() -> PixelErrors:
    """Pixels without errors."""
    none = np.empty(0, np.float32)
    return PixelErrors(np.empty((0, 0), np.float32), np.empty((0, 2), np.int32), none, none)


@dataclass(frozen=True, slots=True)
class Conversion:
    """From light, which is 1 at white level, to codes.

    Attributes:
        exposure: factor on the light of the scene.
        electron: light of one photo-electron at the analogue gain.
        read_variance: variance of the read noise, as light squared.
        black_level: codes, in the order R, Gr, Gb, B.
        white_level: code at which the sensor clips.
    """

    exposure: float
    electron: float
    read_variance: float
    black_level: tuple[float, float, float, float]
    white_level: float


@lru_cache(maxsize=1)
def _deviates() -> NDArray[np.float32]:
    """Quantiles of the normal distribution, evenly spaced in probability, of variance 1."""
    half = _DEVIATES // 2
    normal = NormalDist()
    upper = np.array([normal.inv_cdf(0.5 + (index + 0.5) / _DEVIATES) for index in range(half)])
    both = np.concatenate([-upper[::-1], upper])
    table: NDArray[np.float32] = (both / both.std()).astype(np.float32)
    table.flags.writeable = False
    return table


def scene_planes(
    photo: NDArray[np.uint8], table: NDArray[np.float32], matrix: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A photograph to the light on a sensor's red, green and blue pixels.

    Args:
        photo: uint8 (height, width, 3), sRGB.
        table: float32 (256,), linear light of each code.
        matrix: float32 (3, 3), linear sRGB to camera RGB.

    Returns:
        float32 (3, height, width), not below 0.

    Raises:
        ValueError: An array has the wrong shape or dtype.
    """
    size = check_image("photo", photo, (np.uint8,), 3)
    check_array("table", table, np.float32, (256,))
    check_array("matrix", matrix, np.float32, (3, 3))
    planes = np.empty((3, *size), np.float32)
    _scene_planes(photo, table, matrix, planes)
    return planes


def simulate_frame(
    planes: NDArray[np.float32],
    layout: RawLayout,
    *,
    view: View,
    conversion: Conversion,
    errors: PixelErrors,
    row_noise: NDArray[np.float32],
    key: int,
) -> NDArray[np.uint8]:
    """One frame: a view of the scene, interpolated linearly, with shot and read noise.

    Args:
        planes: float32 (3, height, width), see `scene_planes`; at least 2x2 pixels.
        layout: of the frame; its packing is "csi2p" of 10 or 12 bits, or "u16".
        view: what the frame shows; it must lie within the planes.
        conversion: exposure, noise and levels.
        errors: of the pixels.
        row_noise: float32 (height,), light that is added to each row.
        key: 64 bits that the noise follows from; another key gives other noise at every pixel.

    Returns:
        uint8 (height, bytes per row), without padding.

    Raises:
        ValueError: The view is not within the planes, an array has the wrong shape or dtype, a defect lies outside of
            the frame, or the layout is not one that is simulated.
    """
    width, height = layout.width, layout.height
    if layout.width % 2 or layout.left or layout.top:
        raise ValueError(f"layout must be of a whole frame of even width, found {layout}")
    if not (layout.packing == "u16" or (layout.packing == "csi2p" and layout.bit_depth in (10, 12))):
        raise ValueError(f"frames of '{layout.packing}' and {layout.bit_depth} bits cannot be simulated")
    check_image("planes", planes, (np.float32,))
    _, scene_height, scene_width = planes.shape
    if len(planes) != 3 or scene_height < 2 or scene_width < 2:
        raise ValueError(f"planes must be float32 (3, at least 2, at least 2), found {planes.shape}")
    if not (0 <= view.x <= view.x + view.width <= scene_width and 0 <= view.y <= view.y + view.height <= scene_height):
        raise ValueError(f"view {view} does not lie within the scene of {scene_width}x{scene_height} pixels")
    _check_errors(errors, width, height)
    check_array("row_noise", row_noise, np.float32, (height,))
    check_whole("key", key, 0, 2**64 - 1)
    cell = CELL_PLANES[layout.cfa]
    out = np.zeros((height, row_bytes(layout.packing, layout.bit_depth, width)), np.uint8)
    _simulate(
        planes,
        _taps(view.x, view.width, width, scene_width),
        _taps(view.y, view.height, height, scene_height),
        np.array([_COLOUR[level] for level in cell], np.int64),
        _black_rows(conversion.black_level, cell, width),
        np.array(
            [conversion.exposure, conversion.electron, conversion.read_variance, conversion.white_level], np.float32
        ),
        errors.response,
        (errors.defects, errors.defect_response, errors.defect_offset),
        row_noise,
        (_deviates(), np.uint64(key)),
        layout.bit_depth if layout.packing == "csi2p" else 16,
        out,
    )
    return out


def _check_errors(errors: PixelErrors, width: int, height: int) -> None:
    response, defects = errors.response, errors.defects
    if not (isinstance(response, np.ndarray) and response.shape == (0, 0)):
        check_array("errors.response", response, np.float32, (height, width))
    count = defects.shape[0] if isinstance(defects, np.ndarray) and defects.ndim else 0
    check_array("errors.defects", defects, np.int32, (count, 2))
    check_array("errors.defect_response", errors.defect_response, np.float32, (count,))
    check_array("errors.defect_offset", errors.defect_offset, np.float32, (count,))
    if count and not (np.all(defects >= 0) and np.all(defects < (height, width))):
        raise ValueError(f"errors.defects must lie within the frame of {width}x{height}, found {defects.tolist()}")


def _black_rows(
    levels: tuple[float, float, float, float], cell: tuple[int, int, int, int], width: int
) -> NDArray[np.float32]:
    """Black level of each pixel of an even and of an odd row, (2, width)."""
    return np.tile(np.array([levels[level] for level in cell], np.float32).reshape(2, 2), (1, width // 2))


def _taps(start: float, length: float, count: int, available: int) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Of each pixel the first of the two scene pixels that it lies between, and the weight of the second."""
    centres = start + (np.arange(count) + 0.5) * (length / count) - 0.5
    centres = np.clip(centres, 0, available - 1)
    first = np.minimum(centres.astype(np.int64), available - 2)
    # Unsigned, since numba tests a signed index for being negative, which costs more than the interpolation.
    return first.astype(np.uint64), (centres - first).astype(np.float32)


# Taps along an axis: see `_taps`.
_Axis = tuple[NDArray[np.uint64], NDArray[np.float32]]


@kernel
def _scene_planes(
    photo: NDArray[np.uint8], table: NDArray[np.float32], matrix: NDArray[np.float32], planes: NDArray[np.float32]
) -> None:
    height, width = photo.shape[0], photo.shape[1]
    zero = np.float32(0)
    for y in range(height):
        for x in range(width):
            red, green, blue = table[photo[y, x, 0]], table[photo[y, x, 1]], table[photo[y, x, 2]]
            for plane in range(3):
                light = matrix[plane, 0] * red + matrix[plane, 1] * green + matrix[plane, 2] * blue
                planes[plane, y, x] = max(light, zero)


@kernel
def _simulate(
    planes: NDArray[np.float32],
    across: _Axis,
    down: _Axis,
    cell_planes: NDArray[np.int64],
    black_level: NDArray[np.float32],
    levels: NDArray[np.float32],
    response: NDArray[np.float32],
    defects: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]],
    row_noise: NDArray[np.float32],
    noise_source: tuple[NDArray[np.float32], np.uint64],
    pack_bits: int,
    out: NDArray[np.uint8],
) -> None:
    """Row by row: light, its errors, noise, codes, bytes. `levels` are exposure, electron, read variance, white."""
    columns, column_weights = across
    rows, row_weights = down
    height, width = rows.size, columns.size
    first, end = columns[0], columns[width - 1] + np.uint64(2)
    one = np.uint64(1)
    mixed = np.empty((2, planes.shape[2]), np.float32)
    light = np.empty(width, np.float32)
    deviates = np.empty(width + _PIXELS_PER_GROUP, np.float32)
    codes = np.zeros(width + _PIXELS_PER_GROUP, np.uint16)
    places, place_response, place_offset = defects
    defect = 0
    for y in range(height):
        cell_row = 2 * (y % 2)
        for side in range(2):
            plane = planes[cell_planes[cell_row + side]]
            upper, lower = plane[rows[y], first:end], plane[rows[y] + one, first:end]
            _mix_rows(upper, lower, row_weights[y], mixed[side, first:end])
        _interpolate(mixed[0], mixed[1], columns, column_weights, levels[0], light)
        if response.size:
            for x in range(width):
                light[x] *= response[y, x]
        while defect < places.shape[0] and places[defect, 0] == y:
            x = places[defect, 1]
            light[x] = max(light[x] * place_response[defect] + place_offset[defect], np.float32(0))
            defect += 1
        _draw(noise_source[0], noise_source[1], y, deviates)
        _digitise(light, deviates, row_noise[y], levels, black_level[y % 2], codes)
        if pack_bits == 10:
            _pack10(codes, out[y])
        elif pack_bits == 12:
            _pack12(codes, out[y])
        else:
            _store(codes, out[y])


@kernel
def _mix_rows(
    upper: NDArray[np.float32], lower: NDArray[np.float32], weight: np.float32, out: NDArray[np.float32]
) -> None:
    for x in range(out.size):
        out[x] = upper[x] + weight * (lower[x] - upper[x])


@kernel
def _interpolate(
    even: NDArray[np.float32],
    odd: NDArray[np.float32],
    columns: NDArray[np.uint64],
    weights: NDArray[np.float32],
    exposure: np.float32,
    light: NDArray[np.float32],
) -> None:
    one = np.uint64(1)
    for x in range(0, light.size, 2):
        left = even[columns[x]]
        light[x] = exposure * (left + weights[x] * (even[columns[x] + one] - left))
        left = odd[columns[x + 1]]
        light[x + 1] = exposure * (left + weights[x + 1] * (odd[columns[x + 1] + one] - left))


@kernel
def _draw(table: NDArray[np.float32], key: np.uint64, y: int, deviates: NDArray[np.float32]) -> None:
    """Normal deviates of a row, by SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
    OOPSLA 2014), whose n-th number follows from n alone."""
    groups = deviates.size // _PIXELS_PER_GROUP
    step = np.uint64(0x9E3779B97F4A7C15)
    state = key + np.uint64(y) * np.uint64(groups) * step
    mask = np.uint64(_DEVIATES - 1)
    for group in range(groups):
        state += step
        bits = state
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
        x = group * _PIXELS_PER_GROUP
        deviates[x] = table[bits & mask]
        deviates[x + 1] = table[(bits >> np.uint64(16)) & mask]
        deviates[x + 2] = table[(bits >> np.uint64(32)) & mask]
        deviates[x + 3] = table[(bits >> np.uint64(48)) & mask]


@kernel
def _digitise(
    light: NDArray[np.float32],
    deviates: NDArray[np.float32],
    row_noise: np.float32,
    levels: NDArray[np.float32],
    black_level: NDArray[np.float32],
    codes: NDArray[np.uint16],
) -> None:
    electron, read_variance, white = levels[1], levels[2], levels[3]
    highest = np.float32(np.floor(white))
    half = np.float32(0.5)
    for x in range(light.size):
        seen = light[x]
        seen += np.sqrt(seen * electron + read_variance) * deviates[x] + row_noise
        code = black_level[x] + seen * (white - black_level[x]) + half
        # Comparisons rather than `min` and `max`, which keep the loop from being vectorised.
        code = code if code > half else half
        code = code if code < highest + half else highest + half
        codes[x] = np.uint16(np.int32(code))


@kernel
def _pack10(codes: NDArray[np.uint16], row: NDArray[np.uint8]) -> None:
    for group in range(row.size // 5):
        first, second = np.int32(codes[4 * group]), np.int32(codes[4 * group + 1])
        third, fourth = np.int32(codes[4 * group + 2]), np.int32(codes[4 * group + 3])
        row[5 * group] = first >> 2
        row[5 * group + 1] = second >> 2
        row[5 * group + 2] = third >> 2
        row[5 * group + 3] = fourth >> 2
        row[5 * group + 4] = (first & 3) | (second & 3) << 2 | (third & 3) << 4 | (fourth & 3) << 6


@kernel
def _pack12(codes: NDArray[np.uint16], row: NDArray[np.uint8]) -> None:
    for group in range(row.size // 3):
        first, second = np.int32(codes[2 * group]), np.int32(codes[2 * group + 1])
        row[3 * group] = first >> 4
        row[3 * group + 1] = second >> 4
        row[3 * group + 2] = (first & 15) | (second & 15) << 4


@kernel
def _store(codes: NDArray[np.uint16], row: NDArray[np.uint8]) -> None:
    for x in range(row.size // 2):
        row[2 * x] = codes[x] & np.uint16(255)
        row[2 * x + 1] = codes[x] >> np.uint16(8)
