"""Mirrored and turned readout of a sensor, as the user, libcamera and EXIF say it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edge_isp.errors import CameraError
from edge_isp.kernels.layout import Flips

# By (vertical, horizontal): what turns data that is mirrored so upright.
_EXIF = {(False, False): 1, (False, True): 2, (True, True): 3, (True, False): 4}


def rotated(rotation: int, flips: Flips, source: str) -> Flips:
    """Flips with a rotation added.

    Args:
        rotation: in degrees.
        flips: without it.
        source: the camera, for messages.

    Raises:
        CameraError: a sensor cannot turn its picture so.
    """
    if rotation not in (0, 180):
        raise CameraError(
            f"{source}: rotation must be 0 or 180, since a sensor's rows stay rows, found {rotation}; by 90 or 270 "
            "degrees turn the results"
        )
    turned = rotation == 180
    return Flips(vertical=flips.vertical != turned, horizontal=flips.horizontal != turned)


def make_transform(flips: Flips) -> Any:
    """libcamera's object for a mirrored readout.

    Args:
        flips: of the readout.
    """
    return import_module("libcamera").Transform(hflip=flips.horizontal, vflip=flips.vertical)


def exif_orientation(wanted: Flips, found: Any) -> tuple[int, Flips]:
    """The orientation of frames as in EXIF, and the flips that were applied.

    Where a sensor cannot be read out mirrored, results are turned instead.

    Args:
        wanted: what was asked for.
        found: libcamera's transform, as picamera2 reads it back; None where it says nothing.
    """
    if found is None:
        return 1, wanted
    applied = Flips(vertical=bool(found.vflip), horizontal=bool(found.hflip))
    left = (wanted.vertical != applied.vertical, wanted.horizontal != applied.horizontal)
    return _EXIF[left], applied
