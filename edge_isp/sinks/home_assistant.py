"""Home Assistant's MQTT discovery: documents that describe a camera and its sensors, so that they appear by themselves.

The fields are those of Home Assistant's documentation of its MQTT integration: binary_sensor.mqtt, camera.mqtt and
sensor.mqtt, with their common fields `device`, `origin` and `availability_topic`.
"""

from __future__ import annotations

import json
from typing import Any

from edge_isp import __version__

PREFIX = "homeassistant"


class Discovery:
    """Makes the documents of one device.

    Args:
        base: topic below which the device publishes.
        device_id: of the device: letters, digits and underscores.
        name: of the device, for people.
    """

    def __init__(self, base: str, device_id: str, name: str) -> None:
        self._base, self._device_id, self._name = base, device_id, name

    def camera(self) -> tuple[str, bytes]:
        """Topic and document of the camera, which shows the picture of the last event."""
        return self._document("camera", "snapshot", {"name": "Snapshot", "topic": f"{self._base}/snapshot"})

    def class_sensor(self, key: str, class_name: str) -> tuple[str, bytes]:
        """Topic and document of the sensor of a class.

        Args:
            key: of the class in topics.
            class_name: for people.
        """
        fields = {
            "name": class_name.capitalize(),
            "state_topic": f"{self._base}/class/{key}",
            "payload_on": "ON",
            "payload_off": "OFF",
            "device_class": "occupancy",
        }
        return self._document("binary_sensor", f"class_{key}", fields)

    def zone_counter(self, key: str, zone: str) -> tuple[str, bytes]:
        """Topic and document of the number of objects in a zone.

        Args:
            key: of the zone in topics.
            zone: its name.
        """
        fields = {"name": f"{zone} objects", "state_topic": f"{self._base}/zone/{key}", "state_class": "measurement"}
        return self._document("sensor", f"zone_{key}", fields)

    def temperature(self) -> tuple[str, bytes]:
        """Topic and document of the board's temperature."""
        fields = {
            "name": "Temperature",
            "state_topic": f"{self._base}/temperature",
            "device_class": "temperature",
            "unit_of_measurement": "°C",
            "state_class": "measurement",
            "entity_category": "diagnostic",
        }
        return self._document("sensor", "temperature", fields)

    def _document(self, component: str, key: str, fields: dict[str, Any]) -> tuple[str, bytes]:
        document = {
            **fields,
            "unique_id": f"{self._device_id}_{key}",
            "availability_topic": f"{self._base}/status",
            "payload_available": "online",
            "payload_not_available": "offline",
            "device": {
                "identifiers": [self._device_id],
                "name": self._name,
                "manufacturer": "edge_isp",
                "sw_version": __version__,
            },
            "origin": {"name": "edge_isp", "sw_version": __version__},
        }
        return f"{PREFIX}/{component}/{self._device_id}/{key}/config", json.dumps(document).encode()
