"""Plain NumPy reference of `kernels.defects`, which must equal it bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.defect_candidates import MARGIN_KNEE
from edge_isp.kernels.defect_weighing import (
    ACTIVITY,
    ACTIVITY_NOISE,
    COMMON,
    COMMON_NOISE,
    FADE,
    NOISE,
    SPREAD,
    SPREAD_NOISE,
    WHITE_CONTRAST,
    WHITE_SHARE,
)
from edge_isp.kernels.defects import HIGHEST_LIGHT, LOWEST_LIGHT, DefectPlan
from edge_isp.kernels.layout import CELL_PLANES


def mend(codes: NDArray[np.uint16], cfa: str, defects: DefectPlan) -> NDArray[np.uint16]:
    """See `kernels.defects.read_mended_cells`, on unpacked codes (height, width): whole arrays."""
    height, width = codes.shape
    planes = np.tile(np.array(CELL_PLANES[cfa]).reshape(2, 2), (height // 2, width // 2))
    factor, offset = np.moveaxis(defects.to_light[planes], -1, 0)
    light = (codes.astype(np.int32) * factor - offset) >> defects.shift
    light = np.clip(light, LOWEST_LIGHT, HIGHEST_LIGHT).astype(np.int32)
    candidates, listed = _defect_candidates(light, planes, defects), np.zeros(codes.shape, bool)
    rows = np.repeat(np.arange(height), np.diff(defects.row_starts))
    listed[rows, defects.columns] = True
    (shot, read), (bottom, top) = (
        np.moveaxis(defects.noise[planes], -1, 0),
        np.moveaxis(defects.limits[planes], -1, 0),
    )
    zero, half, quarter = np.float32(0), np.float32(0.5), np.float32(0.25)
    at = _mirrored(light.astype(np.float32))
    own, green = at(0, 0), (planes == 1) | (planes == 2)
    near = np.sort(_own_neighbours(at, green), axis=0)
    lowest, highest = near[1], near[6]
    variance = shot * np.maximum((lowest + highest) * half, zero) + read
    deviation = np.sqrt(variance)
    total, weights = np.zeros_like(own), np.zeros_like(own)
    for dy, dx in ((1, 0), (0, 1), (1, 1), (1, -1)):
        before, after = at(-dy, -dx), at(dy, dx)
        own_before, own_after = at(-2 * dy, -2 * dx), at(2 * dy, 2 * dx)
        beyond = at(-3 * dy, -3 * dx) + at(3 * dy, 3 * dx)
        value = (own_before + own_after) * half + ((before + after) - beyond) * quarter
        change = np.abs(own_before - own_after) + np.abs(before - after)
        if dy and dx:
            value = np.where(green, (before + after) * half, value)
            change = np.where(green, np.float32(2) * np.abs(before - after), change)
        weight = np.float32(1) / (change * change + np.float32(4) * variance + np.float32(16))
        total += weight * value
        weights += weight
    predicted = np.minimum(np.maximum(total / weights, lowest), highest)
    sign = np.where(own > highest, np.float32(1), np.float32(-1))
    beyond = np.maximum(own - highest, lowest - own)
    spread = np.maximum(highest - lowest - np.float32(SPREAD_NOISE) * deviation, zero)
    common, activity, adjacent_variance = np.zeros_like(own), np.zeros_like(own), np.zeros_like(own)
    for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        a, b, c = at(3 * dy, 3 * dx), at(dy + 2 * dx, dx + 2 * dy), at(dy - 2 * dx, dx - 2 * dy)
        median = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
        rise = at(dy, dx) - median
        other = planes ^ (1 if dy == 0 else 2)
        own_variance = defects.noise[other, 0] * np.maximum(median, zero) + defects.noise[other, 1]
        common += rise
        adjacent_variance += own_variance
        activity = np.maximum(activity, np.abs(rise) - np.float32(ACTIVITY_NOISE) * np.sqrt(own_variance))
    common = np.maximum(common * sign - np.float32(COMMON_NOISE) * np.sqrt(adjacent_variance), zero)
    texture = np.float32(SPREAD) * spread + np.float32(ACTIVITY) * activity + np.float32(COMMON) * common
    white = (own >= top) & (highest < np.float32(WHITE_CONTRAST) * own)
    texture = np.where(white, texture * np.float32(WHITE_SHARE), texture)
    texture = np.where(own < bottom, zero, texture)
    threshold = np.float32(NOISE) * deviation + texture
    share = np.minimum(np.maximum((beyond - threshold) / (np.float32(FADE) * threshold), zero), np.float32(1))
    share = np.where(listed, np.float32(1), np.where(candidates, share, zero))
    value = own + (predicted - own) * share
    value = np.floor(value * defects.to_code[planes, 0] + defects.to_code[planes, 1] + half)
    mended = np.minimum(np.maximum(value, zero), np.float32(defects.white)).astype(np.uint16)
    replaced: NDArray[np.uint16] = np.where(share > 0, mended, codes)
    return replaced


def _defect_candidates(light: NDArray[np.int32], planes: NDArray[np.intp], defects: DefectPlan) -> NDArray[np.bool_]:
    at = _mirrored(light)
    own, green = at(0, 0), (planes == 1) | (planes == 2)
    near = np.sort(_own_neighbours(at, green), axis=0)
    lowest, highest = near[1], near[6]
    beyond = np.maximum(own - highest, lowest - own)
    bottom, top = np.moveaxis(defects.limits[planes], -1, 0)
    dim, dim_slope, bright, bright_slope = np.moveaxis(defects.margins[planes].astype(np.int64), -1, 0)
    around = np.maximum((lowest >> 1) + (highest >> 1), 0)
    bright += (np.maximum(around, MARGIN_KNEE) * bright_slope) >> 16
    margin = np.minimum(dim + ((around * dim_slope) >> 16), bright)
    extreme = (own < bottom) | (own >= top)
    more = np.where(extreme, 32767, beyond - (highest - lowest))
    across = np.maximum(np.abs(at(0, -1) - at(0, 1)), np.abs(at(-1, 0) - at(1, 0)))
    chosen: NDArray[np.bool_] = (beyond > margin) & (more > across)
    return chosen


def _mirrored(values: NDArray[Any]) -> Callable[[int, int], NDArray[Any]]:
    """The array shifted by up to three rows and columns, mirrored at its outermost pixels."""
    height, width = values.shape
    padded = np.pad(values, 3, mode="reflect")
    return lambda dy, dx: padded[3 + dy : 3 + dy + height, 3 + dx : 3 + dx + width]


def _own_neighbours(at: Callable[[int, int], NDArray[Any]], green: NDArray[np.bool_]) -> NDArray[Any]:
    """The eight nearest pixels of each pixel's own colour."""
    straight = [at(-2, 0), at(2, 0), at(0, -2), at(0, 2)]
    diagonal = [np.where(green, at(dy, dx), at(2 * dy, 2 * dx)) for dy in (-1, 1) for dx in (-1, 1)]
    return np.stack(straight + diagonal)
