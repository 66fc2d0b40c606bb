"""One screen for a fleet of cameras: what each board sees, over Zenoh.

On each board:      edge-isp run --camera picamera2:0 --model raw-detector --sink zenoh:fleet/NAME
On the screen:      python examples/fleet.py fleet

Boards come and go; each one's newest result stays on the screen. docs/zenoh.md lists the keys.
"""

from __future__ import annotations

import itertools
import json
import queue
import sys
from typing import Any

import zenoh


def main(prefix: str, lines: int | None = None, connect: str | None = None) -> None:
    config = zenoh.Config()
    if connect is not None:
        config.insert_json5("connect/endpoints", json.dumps([connect]))
    news: queue.Queue[str] = queue.Queue()

    def result(sample: Any) -> None:
        found = json.loads(sample.payload.to_bytes())
        names = [detection["class_name"] for detection in found.get("detections", ())]
        news.put(f"{board(sample)}: frame {found['sequence']}: {', '.join(names) or 'nothing'}")

    def alive(sample: Any) -> None:
        news.put(f"{board(sample)} {'is there' if sample.kind == zenoh.SampleKind.PUT else 'is gone'}")

    with zenoh.open(config) as session:
        subscriptions: list[Any] = [
            session.declare_subscriber(f"{prefix}/*/result", result),
            session.liveliness().declare_subscriber(f"{prefix}/*/alive", alive, history=True),
        ]
        for _ in itertools.count() if lines is None else range(lines):
            print(news.get(), flush=True)
        for subscription in subscriptions:
            subscription.undeclare()


def board(sample: Any) -> str:
    """The name of a board in the key of its message."""
    return str(sample.key_expr).split("/")[-2]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None, sys.argv[3] if len(sys.argv) > 3 else None)
