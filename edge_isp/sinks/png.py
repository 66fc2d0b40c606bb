"""Pictures to PNG files."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from edge_isp.calibration.profile import SensorProfile
from edge_isp.results import Picture
from edge_isp.sinks.image_files import ImageFilesSink
from edge_isp.sinks.schedule import Schedule


class PngSink(ImageFilesSink):
    """Writes each picture as a PNG file, without loss; see `ImageFilesSink` for names and safety.

    Args:
        folder: made if it does not exist.
        profile: of the sensor, for pictures that detections are drawn on; None is the shipped profile of the frame's
            sensor.
        every: writes the first result and every Nth one after it.
        interval_s: for time-lapse: seconds between two pictures, by the frames' time stamps; 0 writes all.
        daily: writes only at these hours, local time, such as "06:30-20:00"; None is the whole day.

    Raises:
        SinkError: nothing can be written to the folder, or a value is out of range.
    """

    suffix = ".png"

    def __init__(
        self,
        folder: str | Path,
        *,
        profile: SensorProfile | None = None,
        every: int = 1,
        interval_s: float = 0.0,
        daily: str | None = None,
    ) -> None:
        super().__init__(folder, profile, Schedule(every, interval_s, daily))

    def encode(self, picture: Picture) -> bytes:
        """The content of a picture's file.

        Args:
            picture: to encode.
        """
        written = io.BytesIO()
        # Level 1 is several times as fast as the default, and a tenth larger.
        Image.fromarray(picture.rgb).save(written, format="PNG", compress_level=1)
        return written.getvalue()
