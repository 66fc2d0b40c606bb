"""Measures of picture quality. SSIM and CIEDE2000 need scikit-image (the extra `evaluate`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_isp.training.isp.psnr import psnr_db


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of a picture, or the mean of several.

    Attributes:
        psnr_db: peak signal-to-noise ratio in dB.
        ssim: see `ssim`.
        ciede2000: see `ciede2000`.
    """

    psnr_db: float
    ssim: float
    ciede2000: float

    def document(self) -> dict[str, Any]:
        """The figures by name, rounded."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def quality(output: NDArray[np.uint8], target: NDArray[np.uint8]) -> Quality:
    """All measures of a picture.

    Args:
        output: sRGB, (height, width, 3).
        target: what it should be, of the same shape.
    """
    return Quality(psnr_db(output / 255, target / 255), ssim(output, target), ciede2000(output, target))


def ssim(output: NDArray[np.uint8], target: NDArray[np.uint8]) -> float:
    """Mean structural similarity of two sRGB pictures, uint8 (height, width, 3), at least 11x11 pixels.

    As Wang, Bovik, Sheikh, Simoncelli define it ("Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE Transactions on Image Processing 2004): a Gaussian window of 1.5 pixels; the mean of the colours.

    Args:
        output: the picture.
        target: what it should be.
    """
    from skimage.metrics import structural_similarity

    similarity = structural_similarity(
        output,
        target,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2,
    )
    return cast(float, similarity)  # a tuple only where more is asked for


def ciede2000(output: NDArray[np.uint8], target: NDArray[np.uint8]) -> float:
    """Mean colour difference CIEDE2000 (ISO/CIE 11664-6) of two sRGB pictures, uint8 (height, width, 3); about 1 is
    the least that is seen side by side.

    Args:
        output: the picture.
        target: what it should be.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    return float(deltaE_ciede2000(rgb2lab(output), rgb2lab(target)).mean())
