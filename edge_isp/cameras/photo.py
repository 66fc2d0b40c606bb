"""Photographs used as scenes: upright, and with greys of 16 bits scaled rather than clipped."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from edge_isp.errors import CameraError, EdgeIspError, shortened
from edge_isp.files import check_regular

# Pillow's modes of whole numbers beyond 8 bits: 16-bit greys of PNG and TIFF, "I" in its older versions.
_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_WHITE = 65535

# Each takes up to eight bytes of memory while it is converted.
MOST_PIXELS = 64_000_000

# A damaged picture can break Pillow's readers anywhere.
_PILLOW_ERRORS = (
    OSError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def load_photo(path: Path, width: int, height: int) -> Image.Image:
    """A photograph as 8-bit RGB, turned upright as its EXIF orientation says.

    Args:
        path: of the photograph, in any format that Pillow reads.
        width: that it must have at least when it is upright, in pixels.
        height: that it must have at least when it is upright, in pixels.

    Raises:
        CameraError: it cannot be read as a photograph, or is too small.
    """
    photo = decode(path, CameraError, upright_rgb)
    if photo.width < width or photo.height < height:
        raise CameraError(f"{path}: must be at least {width}x{height} pixels, found {photo.width}x{photo.height}")
    return photo


def decode(path: Path, error: type[EdgeIspError], convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Decodes a photograph; its size is checked before there is memory for it.

    Args:
        path: of the photograph.
        error: what a fault is reported as.
        convert: makes of the opened image what is wanted.

    Raises:
        EdgeIspError: of the type `error`: it cannot be read as a photograph.
    """
    check_regular(path, error)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large and of damaged pictures; the error says it
            with Image.open(path) as image:
                most = MOST_PIXELS // 3 if image.mode in (*_DEEP_MODES, "F") else MOST_PIXELS
                if image.width * image.height > most:
                    raise ValueError(f"expected at most {most} pixels, found {image.width}x{image.height}")
                return convert(image)
    except _PILLOW_ERRORS as fault:
        raise error(f"{path}: cannot be read as a photograph: {shortened(str(fault))}") from fault


def upright_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, turned upright as the EXIF orientation says; Pillow's own conversion clips greys of 16 bits.

    Args:
        image: that was opened.

    Raises:
        ValueError: it has numbers that are no values of 8 or 16 bits.
    """
    return _rgb(ImageOps.exif_transpose(image))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("expected 8 or 16 bits for each channel, found floating-point numbers")
    if image.mode not in _DEEP_MODES:
        return image.convert("RGB")
    codes = np.asarray(image).astype(np.int64)
    if codes.min() < 0 or codes.max() > _WHITE:
        raise ValueError(f"greys must be of 16 bits, found {codes.min()} to {codes.max()}")
    grey = np.rint(codes * (255 / _WHITE)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
