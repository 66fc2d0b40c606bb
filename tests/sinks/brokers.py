"""A real MQTT broker for tests, which can be killed, and a client that notes what arrives."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (apt install mosquitto)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    """A mosquitto that keeps nothing from one life to the next.

    Args:
        folder: for its configuration.
        settings: further lines of the configuration.
    """

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", *(settings or ["allow_anonymous true"]), "user root"]
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(2000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, "mosquitto has ended"
            time.sleep(0.005)
        raise AssertionError("mosquitto does not listen")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Client:
    """Subscribes to everything and notes it."""

    def __init__(self, port: int, name: str = "a listener") -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self.connections = 0
        self._changed = threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, name, clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect, self._client.on_message = self._on_connect, self._on_message
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe("#", qos=1)
        with self._changed:
            self.connections += 1
            self._changed.notify_all()

    def _on_message(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.messages.append((message.topic, bytes(message.payload), message.retain))
            self._changed.notify_all()

    def has_connected(self, times: int) -> bool:
        """Whether it has connected so often."""
        return self.connections >= times

    def has_got(self, messages: int) -> bool:
        """Whether that number of messages has arrived."""
        return len(self.messages) >= messages

    def of(self, topic: str) -> list[bytes]:
        """What has arrived under a topic, in order."""
        return [payload for name, payload, _ in list(self.messages) if name == topic]

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Waits until what has arrived fulfils a condition."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds), [m[:2] for m in self.messages][-20:]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
