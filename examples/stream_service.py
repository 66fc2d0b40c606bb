"""A service that runs for months: two models on one camera, losses by cause, recovery, and signs of life for systemd.

python examples/stream_service.py picamera2:0,fps=30

`examples/edge-isp.service` is a systemd unit for it.
"""

from __future__ import annotations

import logging
import signal
import sys
from functools import partial

from edge_isp import (
    FrameResult,
    ModelOptions,
    Pipeline,
    ReconnectPolicy,
    StateChange,
    StreamOptions,
    open_camera,
)

_log = logging.getLogger("stream_service")


def main(camera: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # systemd ends a service with it
    with Pipeline(
        partial(open_camera, camera),  # called again when the camera has failed
        ModelOptions("rfdcsanet-s", threads=2),
        StreamOptions(
            callback=look,
            reconnect=ReconnectPolicy(stall_s=3.0, longest_wait_s=10.0),
            on_event=report,
            notify_systemd=True,
        ),
    ) as pipeline:
        quality = pipeline.add_consumer("rfdcsanet-m", every=30, in_turn_with=pipeline.consumers[0], callback=keep)
        try:
            pipeline.run()
        except KeyboardInterrupt:
            _log.info("stopped")
        for consumer in (pipeline.consumers[0], quality):
            _log.info("%s: %s", consumer.name, consumer.counts)


def report(event: object) -> None:
    """Logs every new state; dropped frames are counted anyway."""
    if isinstance(event, StateChange):
        _log.info("%s %s", event.state, event.reason)


def look(done: FrameResult) -> None:
    """Every picture, in a thread of the pipeline."""
    if done.age_ns > 200_000_000:
        _log.warning("frame %d was %.0f ms old", done.sequence, done.age_ns / 1e6)


def keep(done: FrameResult) -> None:
    """One picture in thirty, of the better model."""
    _log.info("frame %d: mean brightness %.1f", done.sequence, done.picture.rgb.mean())


if __name__ == "__main__":
    main(*sys.argv[1:])
