"""Spot checks: whether a delegate's outputs are the CPU's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import ParityCheck, TensorInfo
from edge_isp.errors import EngineError

# The two int8 arithmetics of LiteRT itself, XNNPACK's and that of its own kernels, are 0.7 LSB apart after 16 operators
# and 1.4 LSB after 56; an error in a channel, a tile or a scale is tens of LSB.
DEFAULT_TOLERANCE_LSB = 2.0


def compare(
    outputs: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]], tensors: Sequence[TensorInfo]
) -> ParityCheck:
    """The difference of outputs from a reference, over all tensors together.

    Args:
        outputs: the tensors to check.
        reference: the tensors that are right, of the same shapes.
        tensors: what is known of each; differences are counted in steps of its quantisation, and in 1/255 of its range
            where it is not quantised.
    """
    squares, values, equal, greatest = 0.0, 0, 0, 0.0
    for found, expected, tensor in zip(outputs, reference, tensors, strict=True):
        difference = found.astype(np.float64) - expected
        if not tensor.scale:  # not quantised
            difference /= (float(np.ptp(expected)) or 1.0) / 255
        squares += float(np.square(difference).sum())
        equal += int(np.count_nonzero(difference == 0))
        values += difference.size
        greatest = max(greatest, float(np.abs(difference).max(initial=0)))
    return ParityCheck((squares / max(values, 1)) ** 0.5, greatest, equal / max(values, 1))


def require_parity(check: ParityCheck, tolerance_lsb: float) -> None:
    """Refuses outputs that are too far from the CPU's.

    Args:
        check: the comparison.
        tolerance_lsb: the root mean square difference that is allowed, in steps of the outputs' quantisation.

    Raises:
        EngineError: they are too far off.
    """
    # `not <=` refuses NaN as well, which a broken delegate makes of float outputs.
    if not check.rms_lsb <= tolerance_lsb:
        raise EngineError(f"it disagrees with the CPU: {describe(check)}, allowed {tolerance_lsb:g} LSB")


def describe(check: ParityCheck) -> str:
    """A comparison in words.

    Args:
        check: the comparison.
    """
    return (
        f"{check.equal:.1%} of values equal to the CPU's, difference {check.rms_lsb:.2f} LSB rms, "
        f"{check.max_lsb:g} at most"
    )


def wave_inputs(tensors: Sequence[TensorInfo]) -> list[NDArray[Any]]:
    """Waves in the place of an empty frame, on which any two engines would agree.

    Args:
        tensors: the model's inputs.
    """
    frames = []
    for tensor in tensors:
        phase = np.zeros(tensor.shape)
        for axis, size in enumerate(tensor.shape):
            steps = [1] * len(tensor.shape)
            steps[axis] = size
            phase += (np.arange(size) * (0.13 + 0.11 * axis)).reshape(steps)
        values = (np.sin(phase) + 1) / 2
        if np.issubdtype(np.dtype(tensor.dtype), np.integer):
            limits = np.iinfo(tensor.dtype)
            values = np.rint(limits.min + values * (limits.max - limits.min))
        frames.append(values.astype(tensor.dtype))
    return frames
