"""Measures of picture quality. SSIM and CIEDE2000 need scikit-image (the extra `evaluate`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def psnr_db(output: NDArray[Any], target: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB of pictures with values 0 to 1, clipped and rounded to 8 bits."""
    a = np.rint(np.clip(output, 0, 1) * 255)
    b = np.rint(np.clip(target, 0, 1) * 255)
    return float(10 * np.log10(255**2 / max(float(np.mean((a - b) ** 2)), 1e-12)))


def ssim(output: NDArray[np.uint8], target: NDArray[np.uint8]) -> float:
    """Mean structural similarity of two sRGB pictures, uint8 (height, width, 3), at least 11x11 pixels.

    As Wang, Bovik, Sheikh, Simoncelli define it ("Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE Transactions on Image Processing 2004): a Gaussian window of 1.5 pixels; the mean of the colours.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            output,
            target,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=2,
        )
    )


def ciede2000(output: NDArray[np.uint8], target: NDArray[np.uint8]) -> float:
    """Mean colour difference CIEDE2000 (ISO/CIE 11664-6) of two sRGB pictures, uint8 (height, width, 3); about 1 is
    the least that is seen side by side."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    return float(deltaE_ciede2000(rgb2lab(output), rgb2lab(target)).mean())
