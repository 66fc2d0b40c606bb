"""The other process of tests of Zenoh: python -m tests.support.zenoh_peer ROLE KEY PORT [FRAMES]."""

from __future__ import annotations

import json
import select
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import zenoh

from edge_isp.cameras.zenoh import ZenohCamera
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.sinks.zenoh import ZenohSink
from edge_isp.testing.sink import detections_result
from tests.support.zenoh_alone import only_named_endpoints

LAYOUT = RawFormat(1920, 1080, Cfa.RGGB, 10, Packing.CSI2P)


def full_hd(number: int) -> RawFrame:
    """A RAW frame of 1920x1080."""
    data = np.full((LAYOUT.height, LAYOUT.stride), number % 251, np.uint8)
    return RawFrame(data, LAYOUT, "full hd", number, time.monotonic_ns(), (64.0,) * 4, 1023.0, colour_gains=(1.8, 1.4))


def publish(key: str, port: int, frames: int) -> None:
    """Publishes RAW frames at 30 per second until it gets a line; prints the CPU time, and the longest time of one."""
    sink = ZenohSink(key, raw=True, listen=f"tcp/127.0.0.1:{port}")
    print("ready", flush=True)
    sys.stdin.readline()
    begun, cpu = time.monotonic(), time.process_time()
    result = detections_result(1)
    ready, longest_s = full_hd(0), 0.0
    for number in range(frames):
        raw = replace(ready, sequence=number, timestamp_ns=time.monotonic_ns())
        sink.write(replace(result, raw=raw, sequence=number, timestamp_ns=raw.timestamp_ns))
        longest_s = max(longest_s, (time.monotonic_ns() - raw.timestamp_ns) / 1e9)
        wait_s = max(0.0, begun + (number + 1) / 30 - time.monotonic())
        if select.select([sys.stdin], [], [], wait_s)[0]:
            sys.stdin.readline()
            break
    used = time.process_time() - cpu
    figures = {"core": used / (time.monotonic() - begun), "lost": sink.lost, "longest_s": longest_s}
    print(json.dumps(figures), flush=True)
    sys.stdin.readline()
    sink.close()


def read(key: str, port: int, frames: int) -> None:
    """Reads RAW frames, and prints what came and the CPU time that it took."""
    with ZenohCamera(key, connect=f"tcp/127.0.0.1:{port}") as camera:
        print("ready", flush=True)
        first = camera.read(60)
        assert first is not None
        print("reads", flush=True)
        begun, cpu = time.monotonic(), time.process_time()
        numbers, ages_ms = [first.sequence], []
        while len(numbers) < frames:
            frame = camera.read(60)
            assert frame is not None
            numbers.append(frame.sequence)
            ages_ms.append((time.monotonic_ns() - frame.timestamp_ns) / 1e6)
            assert (frame.data[::100, ::100] == 0).all()
        core = (time.process_time() - cpu) / (time.monotonic() - begun)
    print(json.dumps({"core": core, "numbers": numbers, "age_ms": float(np.median(ages_ms))}), flush=True)


def watch(key: str, port: int, frames: int) -> None:
    """Takes all that is published, until it is ended."""
    config = zenoh.Config()
    config.insert_json5("connect/endpoints", json.dumps([f"tcp/127.0.0.1:{port}"]))
    found = threading.Event()
    with zenoh.open(config) as session:
        session.declare_subscriber(f"{key}/**", lambda sample: found.set())
        print("ready", flush=True)
        found.wait()
        print("reads", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    vars(zenoh)["Config"] = only_named_endpoints
    {"publish": publish, "read": read, "watch": watch}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
