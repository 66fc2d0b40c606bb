"""Calibrations of cameras as `camera_info_manager` of ROS keeps them: YAML files to `sensor_msgs/CameraInfo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from edge_isp.errors import CalibrationError, MissingDependencyError, shortened
from edge_isp.files import read_file

_LARGEST_FILE = 64 * 1024
_MATRICES = {
    "camera_matrix": ("k", 9),
    "rectification_matrix": ("r", 9),
    "projection_matrix": ("p", 12),
}
# Numbers of coefficients by model (sensor_msgs/distortion_models.hpp, OpenCV's calibrateCamera).
_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}


def load_camera_info(path: str | Path) -> dict[str, Any]:
    """The fields of `sensor_msgs/CameraInfo` of a calibration file, but the header.

    Args:
        path: of a YAML file of camera_info_manager or camera_calibration.

    Raises:
        CalibrationError: the file cannot be read, or is not such a calibration.
        MissingDependencyError: PyYAML is not installed.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingDependencyError("calibrations of ROS", "yaml", "ros") from error
    text = read_file(path, CalibrationError, _LARGEST_FILE)
    try:
        found = yaml.safe_load(text)
    # PyYAML lets through what Python raises at "!!bool maybe", "!!int ''", "!!timestamp now" and the like.
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise CalibrationError(f"{path}: is not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, dict):
        raise CalibrationError(f"{path}: expected a mapping with image_width, camera_matrix and so on")
    model = found.get("distortion_model")
    if not isinstance(model, str) or model not in _MODELS:
        raise CalibrationError(f"{path}: distortion_model must be one of {', '.join(_MODELS)}, found {_shown(model)}")
    info: dict[str, Any] = {
        "width": _size(path, found, "image_width"),
        "height": _size(path, found, "image_height"),
        "distortion_model": model,
        "d": _numbers(path, found, "distortion_coefficients", _MODELS[model]),
    }
    for name, (field, count) in _MATRICES.items():
        info[field] = _numbers(path, found, name, (count,))
    roi = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
    return info | {"binning_x": 0, "binning_y": 0, "roi": roi}


def _size(path: str | Path, found: dict[Any, Any], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**32:
        raise CalibrationError(f"{path}: {name} must be a positive whole number, found {_shown(value)}")
    return value


def _numbers(path: str | Path, found: dict[Any, Any], name: str, counts: tuple[int, ...]) -> list[float]:
    entry = found.get(name)
    values = entry.get("data") if isinstance(entry, dict) else None
    good = isinstance(values, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= sys.float_info.max for v in values
    )
    if not isinstance(values, list) or not good or len(values) not in counts:
        expected = " or ".join(map(str, counts))
        raise CalibrationError(f"{path}: {name} must have 'data' with {expected} finite numbers")
    return [float(value) for value in values]


def _shown(value: Any) -> str:
    """A value in an error: of what may be endless, or too long for Python to write, the type."""
    if value is None or isinstance(value, str | float) or (isinstance(value, int) and value.bit_length() <= 64):
        return shortened(repr(value))
    return type(value).__name__
