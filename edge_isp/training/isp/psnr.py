"""PSNR, which training validates with and evaluation reports. Does without PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def psnr_db(output: NDArray[Any], target: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB of pictures with values 0 to 1, clipped and rounded to 8 bits.

    Args:
        output: any shape.
        target: of the same shape.
    """
    a = np.rint(np.clip(output, 0, 1) * 255)
    b = np.rint(np.clip(target, 0, 1) * 255)
    return float(10 * np.log10(255**2 / max(float(np.mean((a - b) ** 2)), 1e-12)))
