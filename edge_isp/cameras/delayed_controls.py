"""Settings that take effect some frames after they are set, as registers of a sensor do.

The term is libcamera's (`DelayedControls`): a frame is being exposed already while the next one's settings are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Frames from a setting to the one that shows it, as with most of Sony's sensors and their drivers in libcamera: the
# next frame is being exposed already, but can still be amplified otherwise.
DELAYS: Mapping[str, int] = MappingProxyType({"exposure_ns": 2, "analogue_gain": 1})


class DelayedControls:
    """Knows with which settings each frame is taken.

    Args:
        delays: frames from the one read last to the first with a new value, by the setting's name.
        values: the settings of the first frame, by name.
    """

    def __init__(self, delays: Mapping[str, int], values: Mapping[str, float]) -> None:
        self._delays = dict(delays)
        self._values = dict(values)
        self._pending: list[tuple[int, str, float]] = []  # from which frame on, name, value

    def set(self, sequence: int, values: Mapping[str, float]) -> None:
        """Notes settings that were made after a frame.

        Args:
            sequence: number of the frame that was read last.
            values: the new values, by name.
        """
        self._pending += [(sequence + self._delays[name], name, value) for name, value in values.items()]

    def override(self, sequence: int, values: Mapping[str, float]) -> None:
        """Notes settings that a frame has without a delay.

        Args:
            sequence: number of the first frame that has them.
            values: the new values, by name.
        """
        self._pending += [(sequence, name, value) for name, value in values.items()]

    def at(self, sequence: int) -> dict[str, float]:
        """The settings of a frame.

        Args:
            sequence: its number, greater than that of the call before.

        Returns:
            The values, by name; a name whose value is not known is missing.
        """
        # In the order of the frames, and for one frame in that of the calls, so that the later setting holds.
        for _, name, value in sorted((c for c in self._pending if c[0] <= sequence), key=lambda change: change[0]):
            self._values[name] = value
        self._pending = [change for change in self._pending if change[0] > sequence]
        return dict(self._values)
