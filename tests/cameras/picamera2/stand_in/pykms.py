"""A stand-in for kms++, which picamera2 imports even where there is no display. It can do nothing."""

from enum import Enum

PixelFormat = Enum("PixelFormat", "RGB888 BGR888 XRGB8888 XBGR8888 YUV420 YVU420 NV12")
