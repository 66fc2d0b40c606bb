"""Settings that take effect some frames after they are set, as registers of a sensor do.

The term is libcamera's (`DelayedControls`): a frame is being exposed already while the next one's settings are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Frames from a setting to the one that shows it, where nothing else is known of a sensor: the next frame is being
# exposed already, but can still be amplified otherwise. They are libcamera's (`defaultSensorDelays`).
DELAYS: Mapping[str, int] = MappingProxyType({"exposure_ns": 2, "analogue_gain": 1})

# Frames from a new gain to the one that shows it, by the sensor: `sensorDelays` of libcamera 0.7.2,
# src/libcamera/sensor/camera_sensor_properties.cpp. Exposure takes 2 frames with all of them. Of a sensor that is not
# listed there, such as imx500, libcamera takes the delays above.
_GAIN_DELAYS: Mapping[str, int] = MappingProxyType(
    {
        "ar0144": 2,
        "gc05a2": 2,
        "gc08a3": 2,
        "hm1246": 2,
        "imx219": 1,
        "imx283": 1,
        "imx290": 2,
        "imx296": 2,
        "imx415": 2,
        "imx462": 2,
        "imx477": 2,
        "imx519": 2,
        "imx678": 2,
        "imx708": 2,
        "ov5647": 2,
        "ov64a40": 2,
        "ov7251": 2,
        "ov9281": 2,
        "vd55g1": 2,
        "vd56g3": 2,
    }
)


def delays_of(sensor: str | None) -> Mapping[str, int]:
    """Frames from a setting to the one that shows it, by the setting's name.

    Args:
        sensor: its name ("imx708_wide"), where it is known.
    """
    chip = (sensor or "").lower().split("_")[0]
    return {**DELAYS, "analogue_gain": _GAIN_DELAYS.get(chip, DELAYS["analogue_gain"])}


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
