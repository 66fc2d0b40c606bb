"""Measures what docs/zenoh.md says: processes that publish and subscribe on this machine.

    python scripts/measure_zenoh.py [SECONDS]

Each line is one measurement of SECONDS (20 by default): detections at 30 per second of one sink with up to 32
subscribers, of up to 16 sinks with one subscriber, and of one sink whose second subscriber is killed in the middle.
Every subscriber is a process of its own; results that did not arrive are counted by their numbers.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import zenoh

FPS = 30


class Process:
    """One of this program's other processes, which ends with its `stack`."""

    def __init__(self, stack: ExitStack, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        stack.callback(self._end)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def _end(self) -> None:
        self.process.kill()
        self.process.communicate()


def publish(key: str, port: str, seconds: str) -> None:
    """Publishes detections; prints the rate by half, and the CPU time of a `write`."""
    from edge_isp.sinks.zenoh import ZenohSink
    from edge_isp.testing.sink import detections_result

    sink = ZenohSink(key, listen=f"tcp/127.0.0.1:{port}")
    print("ready", flush=True)
    sys.stdin.readline()
    count, cpu_ns, stamps_s = round(float(seconds) * FPS), 0, []
    begun = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begun + number / FPS - time.monotonic()))
        stamps_s.append(time.monotonic())
        result, before = detections_result(number), time.thread_time_ns()
        sink.write(result)
        cpu_ns += time.thread_time_ns() - before
    half = count // 2
    rates = [(b - a) / (stamps_s[b] - stamps_s[a]) for a, b in ((0, half), (half, count - 1))]
    print(json.dumps({"rates": rates, "write_ms": cpu_ns / count / 1e6, "lost": sink.lost, "count": count}), flush=True)
    sys.stdin.readline()
    sink.close()


def subscribe(key: str, ports: str) -> None:
    """Takes all results of sinks; prints, for each, the first and last number, how many came, and whether in order."""
    config = zenoh.Config()
    config.insert_json5("scouting/multicast/enabled", "false")
    endpoints = [f"tcp/127.0.0.1:{port}" for port in ports.split(",")]
    config.insert_json5("connect/endpoints", json.dumps(endpoints))
    numbers: dict[str, list[int]] = {}

    def note(sample: Any) -> None:
        numbers.setdefault(str(sample.key_expr), []).append(json.loads(sample.payload.to_bytes())["sequence"])

    with zenoh.open(config) as session:
        session.declare_subscriber(f"{key}/**", note)
        while len(session.info.peers_zid()) < len(endpoints):
            time.sleep(0.05)
        print("ready", flush=True)
        sys.stdin.readline()
        found = [(n[0], n[-1], len(n), n == sorted(set(n))) for name, n in numbers.items() if name.endswith("/result")]
        print(json.dumps(found), flush=True)
        sys.stdin.readline()


def measure(sinks: int, subscribers: int, seconds: float, *, killed: bool = False) -> str:
    """One measurement, as a line of a table."""
    key, ports = f"measure_zenoh/{uuid.uuid4().hex}", list(free_ports(sinks))
    with ExitStack() as stack:
        publishers = [Process(stack, "publish", f"{key}/{i}", port, seconds) for i, port in enumerate(ports)]
        for publisher in publishers:
            assert publisher.line() == "ready"
        readers = [Process(stack, "subscribe", key, ",".join(map(str, ports))) for _ in range(subscribers)]
        for reader in readers:
            assert reader.line() == "ready"
        time.sleep(1)  # until every sink knows of every subscriber
        if killed:
            victim = readers.pop().process
            timer = threading.Timer(seconds / 2, os.kill, (victim.pid, signal.SIGKILL))
            timer.start()
        for publisher in publishers:
            publisher.go_on()
        published = [json.loads(publisher.line()) for publisher in publishers]
        time.sleep(1)  # the last results are on their way
        for reader in readers:
            reader.go_on()
        found = [each for reader in readers for each in json.loads(reader.line())]
        load = os.getloadavg()[0]
    expected = len(readers) * sum(each["count"] for each in published)
    arrived, ordered = sum(count for _, _, count, _ in found), all(in_order for *_, in_order in found)
    rates = [rate for each in published for rate in each["rates"]]
    write_ms = sum(each["write_ms"] for each in published) / sinks
    halves = f"; halves {rates[0]:.3f} and {rates[1]:.3f}/s" if killed else ""
    return (
        f"| {sinks} | {subscribers}{', one killed' if killed else ''} | {min(rates):.2f} | {write_ms:.2f} ms | "
        f"{expected - arrived} of {expected}{'' if ordered else ', NOT in order'} | load {load:.0f}{halves}"
    )


def free_ports(count: int) -> Iterable[int]:
    """Ports that nobody listens at."""
    with ExitStack() as stack:
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            yield probe.getsockname()[1]


def main(seconds: float = 20.0) -> None:
    print("| Sinks | Subscribers | Results per second | CPU time of a `write` | Lost |")
    for sinks, subscribers in ((1, 1), (1, 4), (1, 16), (1, 32), (4, 1), (16, 1)):
        print(measure(sinks, subscribers, seconds), flush=True)
    print(measure(1, 2, seconds, killed=True), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["publish"]:
        publish(*sys.argv[2:])
    elif sys.argv[1:2] == ["subscribe"]:
        subscribe(*sys.argv[2:])
    else:
        main(*map(float, sys.argv[1:]))
