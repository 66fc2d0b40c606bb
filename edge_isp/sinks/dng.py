"""RAW frames to DNG files."""

from __future__ import annotations

from pathlib import Path

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import SinkError
from edge_isp.recording.dng import dng_bytes
from edge_isp.results import FrameResult, Picture
from edge_isp.sinks.image_files import ImageFilesSink
from edge_isp.sinks.schedule import Schedule


class DngSink(ImageFilesSink):
    """Writes the RAW frame of each result as a DNG file; see `ImageFilesSink` for names and safety.

    Where the model makes pictures, the file has a small one for viewers that do not develop.

    Args:
        folder: made if it does not exist.
        profile: of the sensor, for the file's colours; None is the shipped profile of the frame's sensor.
        every: writes the first frame and every Nth one after it.
        interval_s: for time-lapse: seconds between two files, by the frames' time stamps; 0 writes all.
        daily: writes only at these hours, local time, such as "06:30-20:00"; None is the whole day.

    Raises:
        SinkError: nothing can be written to the folder, or a value is out of range.
    """

    needs_raw: bool | str = True
    suffix = ".dng"

    def __init__(
        self,
        folder: str | Path,
        *,
        profile: SensorProfile | None = None,
        every: int = 1,
        interval_s: float = 0.0,
        daily: str | None = None,
    ) -> None:
        self._profile = profile
        super().__init__(folder, Schedule(every, interval_s, daily))

    def write(self, result: FrameResult) -> None:
        """Writes the result's RAW frame, where the schedule takes it.

        Args:
            result: with `raw`.

        Raises:
            FormatError: a DNG cannot hold the frame.
            SinkError: it has no RAW frame, it cannot be written, or the sink is closed.
        """
        self._check_open()
        if result.raw is None:
            raise SinkError(
                f"{result.source}: frame {result.sequence} came without its RAW data: give the consumer keep_raw=True"
            )
        if not self._schedule.takes(result.timestamp_ns):
            return
        thumbnail = result.result if isinstance(result.result, Picture) else None
        content = dng_bytes(result.raw, profile=self._profile, thumbnail=thumbnail)
        self._write_new(result.source, result.sequence, content)
