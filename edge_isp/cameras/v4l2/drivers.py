"""What V4L2 drivers do that V4L2 does not let them say, as data, each line with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Stamp(Enum):
    """The moment of a frame that a driver stamps."""

    EXPOSURE_START = "start of exposure"
    READOUT_START = "start of readout"
    FRAME_END = "end of readout"


@dataclass(frozen=True, slots=True)
class DriverTraits:
    """What is known of a driver.

    Attributes:
        stamp: the moment that its time stamps are of, where its buffers do not say that it is the start of exposure.
            V4L2 has one flag for that moment, and calls everything else the end of the frame.
        boottime: its stamps count the time that the machine was suspended, though it says CLOCK_MONOTONIC.
        shared_buffers: it fills a buffer again while the reader has it.
    """

    stamp: Stamp = Stamp.FRAME_END
    boottime: bool = False
    shared_buffers: bool = False


# By the driver's name as VIDIOC_QUERYCAP gives it. Paths are those of Linux 6.12, except for rp1-cfe (6.13). Drivers
# that are not listed stamp the end of the frame, in the interrupt that completes the buffer: read in the sources of
# rkisp1, camss, mxc-isi, imx7-csi, j721e-csi2rx, ti-cal, ipu3-cio2, sun6i-csi, rcar_vin, stm32-dcmipp, tegra-video
# and vimc. vivid says by its flag which moment it stamps.
_TRAITS: Mapping[str, DriverTraits] = MappingProxyType(
    {
        # drivers/media/platform/broadcom/bcm2835-unicam.c, unicam_isr: ktime_get_ns() at the interrupt of the frame's
        # start, "when the first data byte was captured".
        "unicam": DriverTraits(stamp=Stamp.READOUT_START),
        # drivers/media/platform/raspberrypi/rp1-cfe/cfe.c, cfe_sof_isr: ktime_get_ns() at the frame's start.
        "rp1-cfe": DriverTraits(stamp=Stamp.READOUT_START),
        # drivers/media/pci/intel/ipu6/ipu6-isys-queue.c, ipu6_isys_buf_calc_sequence_time: now less the time since the
        # frame's start (get_sof_ns_delta).
        "isys": DriverTraits(stamp=Stamp.READOUT_START),
        # drivers/media/platform/rockchip/rkisp1/rkisp1-capture.c, rkisp1_handle_buffer: ktime_get_boottime_ns() at the
        # end of the frame; the queue's timestamp_flags are V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC.
        "rkisp1": DriverTraits(boottime=True),
        # v4l2loopback.c of v4l2loopback 0.12.7: a ring of buffers that the writer goes on with, read or not.
        "v4l2 loopback": DriverTraits(shared_buffers=True),
    }
)


def traits_of(driver: str) -> DriverTraits:
    """What is known of a driver.

    Args:
        driver: its name as VIDIOC_QUERYCAP gives it.
    """
    return _TRAITS.get(driver, DriverTraits())
