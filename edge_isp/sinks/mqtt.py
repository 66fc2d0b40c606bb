"""Detections, events and snapshots to an MQTT broker, as Home Assistant and others read them."""

from __future__ import annotations

import json
import logging
import re
import secrets
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_isp.board import Board
from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import SinkError, shortened
from edge_isp.files import read_file
from edge_isp.result_json import result_json
from edge_isp.results import Detections, FrameResult
from edge_isp.sinks.home_assistant import Discovery
from edge_isp.sinks.outbox import Outbox
from edge_isp.sinks.pictures import Pictures
from edge_isp.sinks.presence import ClassChange, ClassPresence
from edge_isp.spec import without_secrets

_log = logging.getLogger(__name__)

_KEEP_ALIVE_S, _CONNECT_S = 10, 3.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1, 30
# The broker may take this long for the last events when the sink is closed.
_LAST_EVENTS_S = 2.0
_TEMPERATURE_PERIOD_S = 30.0
# Between two snapshots of a model that makes pictures, and has no events.
_PICTURE_PERIOD_S = 10.0
_JPEG_QUALITY = 85
_LONGEST_QUEUE = 1000
# Between two looks at events that may have to be sent again.
_SETTLING_PERIOD_S = 0.5
_LONGEST_PASSWORD_FILE = 4096
_PORT, _TLS_PORT = 1883, 8883


class MqttSink:
    """Publishes what a detector finds to an MQTT broker, `mqtt://HOST[:PORT][/TOPIC]` (extra `mqtt`); a context for
    Home Assistant, whose discovery makes the camera and its sensors appear by themselves.

    Below TOPIC, which is `edge_isp/` and the machine's name by default, there are:

    - `status`: "online" or "offline"; the broker says "offline" where the connection breaks (last will). Retained.
    - `detections`: what each frame shows, as JSON; never repeated.
    - `event`: a class appears or is gone, as JSON, at least once each: `id` is the same in repetitions.
    - `class/CLASS`: "ON" or "OFF", of every class that the model knows. Retained.
    - `counts`: how many objects of each class there are, as JSON, when it changes. Retained.
    - `zone/ZONE`: how many objects are in a zone, where the pipeline counts them. Retained.
    - `snapshot`: JPEG of the last frame in which a class appeared, with its detections. Retained.
    - `temperature`: the board's, in degrees Celsius, every 30 s. Retained.

    The broker may be absent when the stream starts, and may go and come back: detections meanwhile are lost and counted
    in `lost`, events wait (up to 1,000, then the oldest are lost), and the retained topics are published again as they
    are then.

    Args:
        address: //HOST[:PORT][/TOPIC].
        username: for the broker.
        password_file: path of a file whose first line is the password.
        ca_file: path of the certificates that the broker's certificate is checked against (`mqtts`); None is the
            system's.
        discovery: whether to publish Home Assistant's discovery documents.
        snapshots: whether to publish pictures. Those of detections need the RAW frame of every result.
        absent_s: seconds without a detection, after which a class is gone.
        profile: of the sensor, for pictures; None is the shipped profile of the frame's sensor.
        tone: of snapshots of RAW frames, "camera" or "srgb".

    Attributes:
        needs_raw: see `Sink`.

    Raises:
        SinkError: the address is not one, or a file cannot be read.
    """

    scheme = "mqtt"

    def __init__(
        self,
        address: str,
        *,
        username: str | None = None,
        password_file: str | Path | None = None,
        ca_file: str | Path | None = None,
        discovery: bool = True,
        snapshots: bool = True,
        absent_s: float = 2.0,
        profile: SensorProfile | None = None,
        tone: str = "camera",
    ) -> None:
        host, port, base = self._parsed(address)
        self._shown = f"{self.scheme}://{host}:{port}"
        self._topic = base
        self.needs_raw, self._snapshots = "detections" if snapshots else False, snapshots
        self._pictures = Pictures(profile, tone, overlay=True)
        self._presence, self._board = ClassPresence(absent_s), Board()
        self._keys = _Keys()
        machine = socket.gethostname()
        device_id = re.sub(r"[^A-Za-z0-9]+", "_", base)
        self._discovery = Discovery(base, device_id, base.rsplit("/", 1)[-1] or machine) if discovery else None
        # The client calls back with locks of its own held, which `publish` takes: so its thread only says what has
        # happened, in the next two, and never waits for ours.
        self._connections, self._is_up = 0, False
        self._lock = threading.Lock()  # of everything that is published
        self._served: int | None = None  # the connection that has got the retained topics
        self._retained: dict[str, bytes] = {}
        self._closed = False
        self._problem = ""
        self._detections: paho.MQTTMessageInfo | None = None
        self._has_begun = False  # whether the states of all classes were published
        self._temperature_s = self._picture_s = -1e9
        self._events, self._session = 0, secrets.token_hex(6)
        self._lost_detections = 0
        self._client = self._new_client(username, password_file, ca_file)
        self._outbox = Outbox(self._send_event, time.monotonic)
        self._client.will_set(f"{base}/status", b"offline", qos=1, retain=True)
        if self._discovery is not None:
            self._announce(*self._discovery.temperature())
            if snapshots:
                self._announce(*self._discovery.camera())
        self._news, self._stop = threading.Event(), threading.Event()
        self._follower = threading.Thread(target=self._follow, name="edge_isp mqtt", daemon=True)
        self._client.connect_async(host, port, keepalive=_KEEP_ALIVE_S)
        self._client.loop_start()
        self._follower.start()

    @property
    def lost(self) -> int:
        """Number of results whose detections were not sent, and of events that had to be dropped."""
        return self._lost_detections + self._outbox.lost

    def write(self, result: FrameResult) -> None:
        """Publishes a result.

        Args:
            result: with `raw` for a detector, if snapshots are wanted.

        Raises:
            SinkError: the sink is closed, or there is no picture.
        """
        if self._closed:
            raise SinkError(f"{self._shown}: the sink is closed")
        now_s = time.monotonic()
        with self._lock:
            self._serve()
            if now_s - self._temperature_s >= _TEMPERATURE_PERIOD_S:
                self._temperature_s = now_s
                self._publish_temperature()
            if isinstance(result.result, Detections):
                self._publish_detections(result, result.result)
            elif self._snapshots and now_s - self._picture_s >= _PICTURE_PERIOD_S:
                self._picture_s = now_s
                self._publish_snapshot(result)

    def close(self) -> None:
        """Publishes that the camera is offline, waits a moment for the last events, and disconnects. Idempotent."""
        if self._closed:
            return
        self._closed = True
        deadline_s = time.monotonic() + _LAST_EVENTS_S
        with self._lock:
            self._serve()
            if self._served is not None:
                # With a clean end the broker publishes no last will.
                self._outbox.add(f"{self._topic}/status", b"offline", retain=True)
        while self._is_up and not self._is_acknowledged() and time.monotonic() < deadline_s:
            self._stop.wait(0.01)
        self._stop.set()
        self._news.set()
        self._follower.join()
        client = self._client
        client.disconnect()
        client.loop_stop()
        # The client closes its last sockets when nobody refers to it.
        client.on_connect = client.on_disconnect = client.on_connect_fail = None
        del self._client
        if not self._outbox.is_acknowledged:
            _log.warning("%s: the broker has not acknowledged the last events", self._shown)

    def _is_acknowledged(self) -> bool:
        with self._lock:
            return self._outbox.is_acknowledged

    def _follow(self) -> None:
        """In a thread of its own: serves new connections also while there are no results."""
        while not self._stop.is_set():
            self._news.wait(_SETTLING_PERIOD_S)
            self._news.clear()
            with self._lock:
                self._serve()

    def _serve(self) -> None:
        """Publishes to a new connection what it must have; our lock is held."""
        connection = self._connections if self._is_up else None
        if connection != self._served:
            self._served, self._detections = connection, None
            self._outbox.disconnected()
            if connection is not None:
                for topic, payload in self._retained.items():
                    self._client.publish(topic, payload, qos=0, retain=True)
                if not self._closed:
                    self._client.publish(f"{self._topic}/status", b"online", qos=0, retain=True)
                self._outbox.connected()
        self._outbox.settle()

    def _parsed(self, address: str) -> tuple[str, int, str]:
        """Host, port and topic of an address."""
        url = f"{self.scheme}:{address}"
        shown, expected = shortened(without_secrets(url)), f"expected {self.scheme}://HOST[:PORT][/TOPIC]"
        try:
            parts = urlsplit(url)
            port = parts.port or (_TLS_PORT if self.scheme == "mqtts" else _PORT)
        except ValueError as error:  # the port is no number
            raise SinkError(f"{shown}: {expected}: {error}") from error
        if "@" in parts.netloc:
            raise SinkError(
                f"{shown}: users and passwords do not belong into an address, which others can see: use "
                "username=NAME,password_file=FILE"
            )
        if not address.startswith("//") or not parts.hostname:
            raise SinkError(f"{shown}: {expected}")
        topic = parts.path.strip("/") or f"edge_isp/{socket.gethostname()}"
        if re.search(r"[+\0]", topic) or "#" in address or parts.query:
            raise SinkError(f"{shown}: a topic has no '+', '#' or '?'")
        return parts.hostname, port, topic

    def _new_client(
        self, username: str | None, password_file: str | Path | None, ca_file: str | Path | None
    ) -> paho.Client:
        # The same identity after each reconnection: the broker then ends the old session, and publishes its last will
        # before the new connection says "online" and not after.
        client = paho.Client(CallbackAPIVersion.VERSION2, f"edge_isp_{self._session}", reconnect_on_failure=True)
        client.connect_timeout = _CONNECT_S
        client.max_queued_messages_set(_LONGEST_QUEUE)  # else without limit, where a broker acknowledges nothing
        client.reconnect_delay_set(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        if password_file is not None and username is None:
            raise SinkError(f"{self._shown}: a password_file needs a username")
        if username is not None:
            client.username_pw_set(username, None if password_file is None else _first_line(password_file))
        if self.scheme == "mqtts":
            try:
                client.tls_set_context(ssl.create_default_context(cafile=None if ca_file is None else str(ca_file)))
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                raise SinkError(f"{ca_file}: certificates cannot be read: {error}") from error
        elif ca_file is not None:
            raise SinkError(f"{self._shown}: ca_file is for mqtts://, which is encrypted")
        return client

    def _publish_detections(self, result: FrameResult, found: Detections) -> None:
        # A broker that is slow or away gets the newest, and no growing backlog.
        if self._served is not None and (self._detections is None or self._detections.is_published()):
            document = result_json(result) | {"time": _iso(result.timestamp_realtime_ns)}
            sent = self._client.publish(f"{self._topic}/detections", json.dumps(document), qos=0)
            self._detections = sent if sent.rc == paho.MQTT_ERR_SUCCESS else None
        else:
            self._lost_detections += 1
        changes = self._presence.update(found)
        if not self._has_begun:
            self._has_begun = True
            self._begin(found, changes)
        counts: dict[str, int] = {}
        for name in found.names:
            counts[name] = counts.get(name, 0) + 1
        for change in changes:
            self._publish_change(result, change)
        self._retain("counts", json.dumps(counts, sort_keys=True).encode())
        for zone in found.zones:
            key = self._keys.of("zone", zone.name)
            if self._discovery is not None:
                self._announce(*self._discovery.zone_counter(key, zone.name))
            self._retain(f"zone/{key}", str(zone.present).encode())
        if self._snapshots and any(change.present for change in changes):
            self._publish_snapshot(result)

    def _begin(self, found: Detections, changes: list[ClassChange]) -> None:
        """Names the topics of all classes, in the model's order so that a restart changes none, and takes back what the
        broker has retained of a session before this one."""
        appearing = {change.class_name for change in changes}
        for name in found.class_names:
            key = self._keys.of("class", name)
            if name not in appearing:
                self._retain(f"class/{key}", b"OFF")

    def _publish_change(self, result: FrameResult, change: ClassChange) -> None:
        key = self._keys.of("class", change.class_name)
        if self._discovery is not None:
            self._announce(*self._discovery.class_sensor(key, change.class_name))
        self._retain(f"class/{key}", b"ON" if change.present else b"OFF")
        self._events += 1
        event = {
            "id": f"{self._session}-{self._events}",
            "event": "appeared" if change.present else "gone",
            "class": change.class_name,
            "confidence": round(change.confidence, 4),
            "source": result.source,
            "sequence": change.sequence,
            "timestamp_ns": change.timestamp_ns,
            "time": _iso(result.timestamp_realtime_ns),
        }
        self._outbox.add(f"{self._topic}/event", json.dumps(event).encode())

    def _publish_snapshot(self, result: FrameResult) -> None:
        self._retain("snapshot", self._pictures.of(result).jpeg(_JPEG_QUALITY))

    def _publish_temperature(self) -> None:
        temperatures = self._board.temperatures_c()
        if temperatures:
            self._retain("temperature", f"{max(temperatures.values()):.1f}".encode())

    def _announce(self, topic: str, document: bytes) -> None:
        self._set_retained(topic, document)

    def _retain(self, name: str, payload: bytes) -> None:
        self._set_retained(f"{self._topic}/{name}", payload)

    def _set_retained(self, topic: str, payload: bytes) -> None:
        """Publishes a state if it has changed. Without acknowledgement: one that is lost with the connection is
        published again with the next one, and a repetition of an older one cannot overtake it."""
        if self._retained.get(topic) != payload:
            self._retained[topic] = payload
            if self._served is not None:
                self._client.publish(topic, payload, qos=0, retain=True)

    def _send_event(self, topic: str, payload: bytes, retain: bool) -> paho.MQTTMessageInfo | None:
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        return sent if sent.rc == paho.MQTT_ERR_SUCCESS else None  # others have no receipt

    def _on_connect(self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        """In the client's thread."""
        if reason.is_failure:
            self._say(f"the broker refuses the connection: {reason}")
            return
        self._say("")
        self._connections += 1
        self._is_up = True
        self._news.set()

    def _on_disconnect(self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._is_up = False
        self._news.set()
        if not self._closed:
            self._say(f"the connection is lost: {reason}")

    def _on_connect_fail(self, client: paho.Client, data: Any) -> None:
        self._say("the broker cannot be reached")

    def _say(self, problem: str) -> None:
        """Logs a problem once, and its end."""
        if problem == self._problem:
            return
        self._problem = problem
        if problem:
            _log.warning("%s: %s; trying again", self._shown, problem)
        else:
            _log.warning("%s: connected again", self._shown)


class MqttsSink(MqttSink):
    """Publishes to an MQTT broker over TLS, `mqtts://HOST[:PORT][/TOPIC]`; see `MqttSink`.

    Args:
        address: //HOST[:PORT][/TOPIC].
        username: for the broker.
        password_file: path of a file whose first line is the password.
        ca_file: path of the certificates that the broker's certificate is checked against; None is the system's.
        discovery: whether to publish Home Assistant's discovery documents.
        snapshots: whether to publish pictures. Those of detections need the RAW frame of every result.
        absent_s: seconds without a detection, after which a class is gone.
        profile: of the sensor, for pictures; None is the shipped profile of the frame's sensor.
        tone: of snapshots of RAW frames, "camera" or "srgb".

    Raises:
        SinkError: the address is not one, or a file cannot be read.
    """

    scheme = "mqtts"


@dataclass(slots=True)
class _Keys:
    """Names as parts of topics: letters, digits and underscores, each name with a key of its own."""

    _taken: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, kind: str, name: str) -> str:
        """The key of a name among those of its kind."""
        if (kind, name) not in self._taken:
            plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or kind
            taken = {key for (other, _), key in self._taken.items() if other == kind}
            free = next(k for k in (plain, *(f"{plain}_{i}" for i in range(2, len(taken) + 3))) if k not in taken)
            self._taken[kind, name] = free
        return self._taken[kind, name]


def _first_line(path: str | Path) -> str:
    text = read_file(path, SinkError, _LONGEST_PASSWORD_FILE)
    try:
        password = text.decode("utf-8").split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError as error:
        raise SinkError(f"{path}: a password must be UTF-8 text") from error
    if not password:
        raise SinkError(f"{path}: the first line must be the password, found an empty one")
    return password


def _iso(realtime_ns: int) -> str:
    return datetime.fromtimestamp(realtime_ns / 1e9, UTC).isoformat(timespec="milliseconds")
