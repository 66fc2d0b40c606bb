"""A doorbell for Home Assistant: who is at the door, with a picture, over MQTT.

python examples/doorbell.py picamera2:0,fps=10 mqtt://homeassistant.local/edge_isp/door,username=door,password_file=/etc/edge-isp/mqtt

The sink announces the camera and its sensors to Home Assistant by itself; an automation on the sensor "Person" rings
the bell. docs/mqtt.md lists the topics. The broker may be restarted at any time.
"""

from __future__ import annotations

import sys

from edge_isp import ModelOptions, Pipeline, StreamOptions, open_camera, open_sink


def main(camera: str, broker: str) -> None:
    # Five frames a second are enough for a door, and leave the board cool.
    with Pipeline(lambda: open_camera(camera), ModelOptions("raw-detector"), StreamOptions(max_fps=5)) as pipeline:
        pipeline.add_sink(open_sink(broker))
        pipeline.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
