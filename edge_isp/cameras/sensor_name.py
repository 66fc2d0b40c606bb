"""A sensor's name as profiles and tables have it, from what drivers and libcamera call it."""

from __future__ import annotations

import re


def sensor_name(text: str | None) -> str | None:
    """The name of a sensor, with its variant: "imx219 4-0010", "m00_b_imx219 4-0010" and "IMX219" are an "imx219".

    The kernel's drivers append the bus and address, Rockchip's put the module's number and side before it. What is
    left may have a variant, as libcamera's models do: "imx708_wide".

    Args:
        text: name of a sub-device, or libcamera's model.

    Returns:
        The name in lower case; None where there is none.
    """
    words = (text or "").strip().lower().split()
    if not words:
        return None
    return re.sub(r"^m\d{2}_[a-z]_", "", words[0]) or None
