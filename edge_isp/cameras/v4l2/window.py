"""Which part of the sensor a V4L2 device delivers, by its selection rectangles and its flip controls."""

from __future__ import annotations

import errno

from edge_isp.calibration.profile import SensorProfile
from edge_isp.cameras.v4l2.abi import (
    BUF_TYPE_VIDEO_CAPTURE,
    SEL_TGT_CROP,
    SEL_TGT_CROP_DEFAULT,
    SUBDEV_FORMAT_ACTIVE,
    VIDIOC_G_SELECTION,
    VIDIOC_SUBDEV_G_SELECTION,
    Rectangle,
    Selection,
    SubdeviceSelection,
)
from edge_isp.cameras.v4l2.controls import V4l2Controls
from edge_isp.cameras.v4l2.device import CaptureDevice, V4l2Device
from edge_isp.frame import RawFormat
from edge_isp.kernels.layout import Flips
from edge_isp.sensor_window import SensorWindow

# A driver that knows no selection, not this target, or not of this pad or stream.
_UNKNOWN = (errno.ENOTTY, errno.EINVAL, errno.ENODATA)


def sensor_window(
    device: CaptureDevice,
    subdevice: V4l2Device | None,
    controls: V4l2Controls,
    layout: RawFormat,
    profile: SensorProfile | None,
) -> SensorWindow | None:
    """The part of the sensor that frames show; None where the driver does not report it.

    The crop rectangle is what is read out, the default one the whole sensor; both count from the corner of all pixels,
    hidden ones included. A video device may report its own cropping in the place of the sensor's: its rectangles count
    only where the default one has the size of the profile's sensor.

    Args:
        device: the video device.
        subdevice: the sensor's, where it is known.
        controls: of the sensor.
        layout: of the frames.
        profile: of the sensor.
    """
    crop, whole = (_rectangle(device, subdevice, target) for target in (SEL_TGT_CROP, SEL_TGT_CROP_DEFAULT))
    if crop is None or whole is None:
        return None
    if subdevice is None and (profile is None or profile.size != (whole.width, whole.height)):
        return None
    left, top = crop.left - whole.left, crop.top - whole.top
    inside = left >= 0 and top >= 0 and left + crop.width <= whole.width and top + crop.height <= whole.height
    if not inside or crop.width < layout.width or crop.height < layout.height:
        return None
    return SensorWindow(left, top, crop.width, crop.height, (whole.width, whole.height), _flips(controls))


def _rectangle(device: CaptureDevice, subdevice: V4l2Device | None, target: int) -> Rectangle | None:
    if subdevice is not None:
        of_pad = SubdeviceSelection(which=SUBDEV_FORMAT_ACTIVE, pad=0, target=target)
        return None if subdevice.request(VIDIOC_SUBDEV_G_SELECTION, of_pad, _UNKNOWN) else of_pad.r
    # Devices of several planes, too, take the type of one plane here.
    selection = Selection(type=BUF_TYPE_VIDEO_CAPTURE, target=target)
    return None if device.request(VIDIOC_G_SELECTION, selection, _UNKNOWN) else selection.r


def _flips(controls: V4l2Controls) -> Flips | None:
    """As the sensor's controls say; None where it has none. A side without a control is not mirrored."""
    names = ("vertical_flip", "horizontal_flip")
    if not any(name in controls for name in names):
        return None
    vertical, horizontal = (name in controls and bool(controls.get(name)) for name in names)
    return Flips(vertical, horizontal)
