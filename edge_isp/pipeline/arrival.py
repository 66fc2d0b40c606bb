"""The one check of each frame, on arrival: its metadata, its number and its time."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edge_isp.errors import CameraError
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.frame_check import check_frame
from edge_isp.pipeline.drops import Event, MetadataIgnored

_log = logging.getLogger(__name__)

# A number that is further from the one before is a driver's mistake, not a loss: nine hours at 30 frames per second.
_LARGEST_GAP = 1_000_000
# No sensor makes more frames per second; below `_UNCHECKED_GAP`, time stamps are not trusted to say so.
_MOST_FPS, _UNCHECKED_GAP = 10_000, 1_000
# Sources whose metadata were reported once are remembered up to this number of reports: a folder has many files.
_MOST_REPORTS = 1_000


class Arrival:
    """Checks the frames of one stream.

    Args:
        report: called with each `MetadataIgnored`, the first one of each source and field.
        now_ns: the time, CLOCK_MONOTONIC.
    """

    def __init__(self, report: Callable[[Event], None], now_ns: Callable[[], int]) -> None:
        self._report, self._now_ns = report, now_ns
        self._reported: set[tuple[str, str]] = set()
        self._last: tuple[str, int, int] | None = None  # source, number and time of the last frame

    def restart(self) -> None:
        """The camera was opened again: nothing is known about what came before."""
        self._last = None

    def check(self, frame: RawFrame, *, live: bool) -> tuple[RawFrame, int]:
        """What can be used of a frame, and how many frames were lost between the last one and this one.

        By their numbers, or one if the numbers are consecutive but the driver reports a gap.

        Args:
            frame: a camera's.
            live: whether the camera has a pace of its own, so that its time stamps say how many frames there can be.

        Raises:
            CameraError: it is no frame.
        """
        if not isinstance(frame, RawFrame):
            raise CameraError(f"the camera's `read` must return a frame or None: expected a RawFrame, found {frame!r}")
        try:
            frame, unusable = check_frame(frame)
            reasons = {each.name: each.reason for each in unusable}
            frame, missing = self._ordered(frame, live, reasons)
        except BaseException:
            frame.release()
            raise
        for name, reason in reasons.items():
            self._ignore(frame, name, reason)
        return frame, missing

    def _ordered(self, frame: RawFrame, live: bool, reasons: dict[str, str]) -> tuple[RawFrame, int]:
        """The frame with a number and a time, and how many are missing before it."""
        last = self._last if self._last is not None and self._last[0] == frame.source else None
        changes: dict[str, Any] = {}
        sequence, timestamp_ns = _integer(frame.sequence), _integer(frame.timestamp_ns)
        if sequence is None:
            sequence = changes["sequence"] = 0 if last is None else last[1] + 1
            reasons["sequence"] = (
                f"sequence must be a whole number, found {frame.sequence!r}: it counts as the next one"
            )
        elif sequence is not frame.sequence:
            changes["sequence"] = sequence
        if timestamp_ns is None:
            timestamp_ns = changes["timestamp_ns"] = self._now_ns()
            changes["status"] = frame.status | FrameStatus.BAD_TIMESTAMP
            reasons["timestamp_ns"] = (
                f"timestamp_ns must be a whole number of nanoseconds, found {frame.timestamp_ns!r}: the time of "
                "arrival takes its place"
            )
        elif timestamp_ns is not frame.timestamp_ns:
            changes["timestamp_ns"] = timestamp_ns
        if last is not None and timestamp_ns <= last[2]:
            changes["status"] = changes.get("status", frame.status) | FrameStatus.BAD_TIMESTAMP
        if changes:
            frame = replace(frame, **changes)
        self._last = frame.source, sequence, timestamp_ns
        if last is None or sequence <= last[1]:
            return frame, 0
        missing = max(sequence - last[1] - 1, int(FrameStatus.GAP in frame.status))
        greatest = _LARGEST_GAP
        if live and FrameStatus.BAD_TIMESTAMP not in frame.status:
            greatest = min(greatest, _UNCHECKED_GAP + (timestamp_ns - last[2]) * _MOST_FPS // 10**9)
        if missing >= greatest:
            reasons["sequence"] = f"sequence is {sequence} after {last[1]}: a bad number, no frame counts as lost"
            return frame, 0
        return frame, missing

    def _ignore(self, frame: RawFrame, name: str, reason: str) -> None:
        key = (frame.source, name)
        if key in self._reported or len(self._reported) >= _MOST_REPORTS:
            return
        self._reported.add(key)
        _log.warning("%s: frame %d: %s", frame.source, frame.sequence, reason)
        self._report(MetadataIgnored(frame.source, name, reason, frame.sequence, self._now_ns()))


def _integer(value: object) -> int | None:
    """A whole number as Python's own, whose differences do not overflow; None where it is none."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
