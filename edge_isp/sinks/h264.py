"""H.264 by PyAV: pictures into a container that is open for writing."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType

from edge_isp.errors import SinkError
from edge_isp.kernels.decode import rgb_to_i420
from edge_isp.results import Picture
from edge_isp.sinks.timeline import TICKS_PER_S, Timeline, check_size

# The board's own encoder first. Its driver needs a bit rate; x264 keeps a quality.
_ENCODERS: dict[str, dict[str, str]] = {
    "h264_v4l2m2m": {},
    "libx264": {"preset": "ultrafast", "tune": "zerolatency", "crf": "23", "forced-idr": "1"},
}
_BITS_PER_PIXEL_AND_S = 3.0

# A player can begin at, and a killed recording is whole up to, the last key frame.
KEY_FRAME_TICKS = TICKS_PER_S


class H264Writer:
    """The H.264 stream of a container; it writes the container's header with the first picture.

    Args:
        name: of the sink, for errors.
        container: PyAV's, open for writing; it stays its owner's.
        width: of every picture, in pixels.
        height: of every picture, in pixels.

    Attributes:
        size: width and height of every picture, in pixels.

    Raises:
        SinkError: a size is odd, or this PyAV has no encoder that works here.
    """

    def __init__(self, name: str, container: Any, width: int, height: int) -> None:
        check_size(name, width, height)
        self._name, self._container = name, container
        self.size = width, height
        self._timeline = Timeline()
        self._key_due = 0
        self._planes = np.empty((height // 2 * 3, width), np.uint8)
        encoder = working_encoder(width, height)
        # The rate is a hint only: each frame has its own time.
        self._stream = container.add_stream(encoder, rate=30, options=_ENCODERS[encoder])
        _set_up(self._stream.codec_context, width, height)
        self._stream.time_base = Fraction(1, TICKS_PER_S)

    def write(self, picture: Picture) -> bool:
        """Encodes a picture and writes what the encoder gives.

        Args:
            picture: of the size of the others.

        Returns:
            Whether it is a key frame, so that everything before it is a whole fragment.

        Raises:
            FFmpegError, OSError: of PyAV and of what it writes to.
        """
        rgb_to_i420(np.ascontiguousarray(picture.rgb), self._planes)
        frame = av.VideoFrame.from_ndarray(self._planes, format="yuv420p")
        frame.pts = self._timeline.ticks(picture.timestamp_ns)
        frame.time_base = Fraction(1, TICKS_PER_S)
        is_key = bool(frame.pts >= self._key_due)
        if is_key:
            frame.pict_type = PictureType.I
            self._key_due = frame.pts + KEY_FRAME_TICKS
        self._container.mux(self._stream.encode(frame))
        return is_key

    @property
    def elapsed_ticks(self) -> int:
        """The time of the last picture; 0 before the second."""
        return self._timeline.last_ticks

    def finish(self) -> None:
        """Writes what the encoder still holds.

        Raises:
            FFmpegError, OSError: of PyAV and of what it writes to.
        """
        self._container.mux(self._stream.encode(None))


@cache
def working_encoder(width: int, height: int) -> str:
    """Name of the first encoder that works on this machine, for a size.

    Args:
        width: of the pictures, in pixels.
        height: of the pictures, in pixels.

    Raises:
        SinkError: none does.
    """
    failures = []
    for name in _ENCODERS:
        try:
            context = av.CodecContext.create(name, "w")
            _set_up(context, width, height)
            context.open()
        except (FFmpegError, ValueError) as error:
            failures.append(f"{name}: {error}")
            continue
        return name
    raise SinkError(f"PyAV {av.__version__} has no H.264 encoder that works here: {'; '.join(failures)}")


def _set_up(context: Any, width: int, height: int) -> None:
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = Fraction(1, TICKS_PER_S)
    context.gop_size = 1 << 20  # key frames are asked for by time
    if context.name != "libx264":
        context.bit_rate = round(_BITS_PER_PIXEL_AND_S * width * height)
    # The numbers of the kernel `rgb_to_i420` (BT.601, studio range) and of sRGB, in ITU-T H.273.
    context.color_range, context.colorspace = 1, 6
    context.color_primaries, context.color_trc = 1, 13
