"""Detections at an MQTT broker that is killed and comes back; the real mosquitto."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_isp.errors import SinkError
from edge_isp.results import Detections, FrameResult, ZoneCount
from edge_isp.sinks.mqtt import MqttSink, MqttsSink
from edge_isp.sinks.outbox import Outbox
from edge_isp.sinks.presence import ClassPresence
from edge_isp.sinks.spec import open_sink
from edge_isp.testing import check_sink
from edge_isp.testing.sink import detections_result, picture_result
from tests.sinks.brokers import Broker, Client, free_port, needs_mosquitto

NAMES = ("person", "cell phone", "Cell-Phone", "犬")


def seen(number: int, *class_ids: int, time_s: float | None = None, zones: tuple[ZoneCount, ...] = ()) -> FrameResult:
    """A result in which objects of some classes are seen."""
    result = detections_result(number, raw=True)
    now = round((number if time_s is None else time_s) * 1e9)
    n = len(class_ids)
    found = Detections(
        np.array([[4.0, 4.0, 20.0, 20.0]] * n, np.float32).reshape(n, 4),
        np.linspace(0.9, 0.5, n).astype(np.float32),
        np.array(class_ids, np.int32),
        NAMES,
        "camera",
        number,
        now,
        zones=zones,
    )
    return replace(result, result=found, source="camera", sequence=number, timestamp_ns=now)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@needs_mosquitto
def test_the_mqtt_sink_conforms(broker: Broker) -> None:
    address = f"//127.0.0.1:{broker.port}/home/door"
    check_sink(lambda: MqttSink(address), spec=f"mqtt:{address}")


def test_without_a_broker_it_conforms_too() -> None:
    check_sink(lambda: MqttSink(f"//127.0.0.1:{free_port()}"))


@needs_mosquitto
def test_what_is_published(broker: Broker) -> None:
    client = Client(broker.port)
    client.wait(lambda: client.connections)
    sink = open_sink(f"mqtt://127.0.0.1:{broker.port}/home/door")
    client.wait(lambda: client.of("home/door/status"))
    sink.write(seen(0))
    sink.write(seen(1, 0, 0, zones=(ZoneCount("Front yard", 1, 1),)))
    client.wait(lambda: len(client.of("home/door/snapshot")) == 1)
    sink.write(seen(2, 1))
    sink.write(seen(4, 1, 2))
    client.wait(lambda: len(client.of("home/door/snapshot")) == 3)
    sink.close()
    client.wait(lambda: len(client.of("home/door/status")) == 2)
    client.close()
    assert client.of("home/door/status") == [b"online", b"offline"]
    events = [json.loads(payload) for payload in client.of("home/door/event")]
    assert [(e["event"], e["class"], e["sequence"]) for e in events] == [
        ("appeared", "person", 1),
        ("appeared", "cell phone", 2),
        ("appeared", "Cell-Phone", 4),
        ("gone", "person", 4),
    ]
    assert len({event["id"] for event in events}) == 4
    assert client.of("home/door/class/person") == [b"OFF", b"ON", b"OFF"]
    assert client.of("home/door/class/cell_phone") == [b"OFF", b"ON"]
    assert client.of("home/door/class/cell_phone_2") == [b"OFF", b"ON"]
    assert [json.loads(c) for c in client.of("home/door/counts")][:2] == [{}, {"person": 2}]
    assert client.of("home/door/zone/front_yard") == [b"1"]
    assert Image.open(io.BytesIO(client.of("home/door/snapshot")[-1])).format == "JPEG"
    detections = [json.loads(payload) for payload in client.of("home/door/detections")]
    assert detections[0]["sequence"] == 0
    assert {"detections", "time", "timestamp_ns", "age_ns"} <= detections[-1].keys()
    retained = Client(broker.port)
    retained.wait(lambda: len(retained.of("home/door/class/person")) == 1)
    retained.close()


@needs_mosquitto
def test_a_restart_takes_back_what_was_there_before(broker: Broker) -> None:
    """Each class has the topic that it had, in whichever order classes appear."""
    retained: list[dict[str, list[bytes]]] = []
    keys = ("person", "cell_phone", "cell_phone_2", "class")

    def says(client: Client, status: bytes) -> bool:
        return client.of("x/status")[-1:] == [status]

    def has_all(client: Client) -> bool:
        return all(client.of(f"x/class/{key}") for key in keys)

    for number, class_ids in enumerate(((2, 0), (1,), ())):
        sink = MqttSink(f"//127.0.0.1:{broker.port}/x", snapshots=False)
        client = Client(broker.port)
        client.wait(partial(says, client, b"online"))
        sink.write(seen(1, *class_ids))
        sink.close()
        client.wait(partial(says, client, b"offline"))
        client.close()
        late = Client(broker.port, f"late {number}")
        late.wait(partial(has_all, late))
        late.close()
        retained.append({key: late.of(f"x/class/{key}") for key in keys})
    assert retained == [
        {"person": [b"ON"], "cell_phone": [b"OFF"], "cell_phone_2": [b"ON"], "class": [b"OFF"]},
        {"person": [b"OFF"], "cell_phone": [b"ON"], "cell_phone_2": [b"OFF"], "class": [b"OFF"]},
        {"person": [b"OFF"], "cell_phone": [b"OFF"], "cell_phone_2": [b"OFF"], "class": [b"OFF"]},
    ]


# What Home Assistant's documentation of its MQTT integration lists (binary_sensor.mqtt, camera.mqtt, sensor.mqtt).
COMMON = {
    "availability_topic",
    "payload_available",
    "payload_not_available",
    "device",
    "origin",
    "unique_id",
    "name",
    "icon",
    "entity_category",
    "device_class",
    "qos",
    "json_attributes_topic",
    "enabled_by_default",
}
FIELDS = {
    "binary_sensor": (
        COMMON | {"state_topic", "payload_on", "payload_off", "off_delay", "expire_after"},
        "state_topic",
    ),
    "camera": (COMMON | {"topic", "image_encoding"}, "topic"),
    "sensor": (COMMON | {"state_topic", "state_class", "unit_of_measurement", "value_template"}, "state_topic"),
}
DEVICE = {"identifiers", "connections", "name", "manufacturer", "model", "sw_version", "hw_version", "suggested_area"}
ORIGIN = {"name", "sw_version", "support_url"}


@needs_mosquitto
def test_home_assistant_finds_the_camera_and_its_sensors(broker: Broker) -> None:
    sink = MqttSink(f"//127.0.0.1:{broker.port}/home/door")
    sink.write(seen(1, 0, 1, 2, 3, zones=(ZoneCount("Front yard", 1, 1),)))
    first = Client(broker.port)
    first.wait(lambda: first.of("home/door/snapshot") and first.of("home/door/class/person"))
    first.close()
    client = Client(broker.port)  # comes when everything is there
    client.wait(lambda: client.of("home/door/snapshot") and client.of("home/door/zone/front_yard"))
    client.wait(lambda: client.of("home/door/status") and client.of("home/door/class/class"))
    documents = {t: json.loads(p) for t, p, retained in client.messages if t.startswith("homeassistant/") and retained}
    topics = {topic for topic, _, _ in client.messages}
    sink.close()
    client.close()
    kinds = [topic.split("/")[1] for topic in documents]
    assert (kinds.count("camera"), kinds.count("binary_sensor")) == (1, 4)
    assert kinds.count("sensor") == 2
    for topic, document in documents.items():
        _, component, node, key, config = topic.split("/")
        allowed, required = FIELDS[component]
        assert document.keys() <= allowed
        assert required in document
        assert (node, config) == ("home_door", "config")
        assert document["unique_id"] == f"home_door_{key}"
        assert document["device"].keys() <= DEVICE
        assert document["device"]["identifiers"] == ["home_door"]
        assert document["origin"].keys() <= ORIGIN
        assert "name" in document["origin"]
        assert document["availability_topic"] == "home/door/status"
        assert document[required] in topics or key == "temperature"
    assert len({document["unique_id"] for document in documents.values()}) == len(documents)


@needs_mosquitto
@pytest.mark.parametrize("restarts", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_every_event_arrives_although_the_broker_is_killed(tmp_path: Path, restarts: int) -> None:
    broker = Broker(tmp_path)
    broker.start()
    client = Client(broker.port)
    sink = MqttSink(f"//127.0.0.1:{broker.port}/home/door", absent_s=0, snapshots=False)
    stop, number = threading.Event(), 0
    states: dict[int, bool] = {}

    def load() -> None:
        nonlocal number
        while not stop.wait(0.02):
            classes = [c for c in range(len(NAMES)) if number // 7 % (c + 2) == 0]
            sink.write(seen(number, *classes))
            states.update({c: c in classes for c in range(len(NAMES))})
            number += 1

    writer = threading.Thread(target=load)
    writer.start()
    tracemalloc.start()
    try:
        for restart in range(restarts):
            client.wait(partial(client.has_connected, restart + 1))
            client.wait(partial(client.has_got, len(client.messages) + 5))
            broker.kill()
            broker.start()
        client.wait(lambda: client.connections > restarts)
    finally:
        stop.set()
        writer.join()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    written = sink._events
    assert written > 10 * restarts

    def arrived() -> set[str]:
        return {json.loads(payload)["id"].split("-")[1] for payload in client.of("home/door/event")}

    expected = {str(i + 1) for i in range(written)}
    deadline = time.monotonic() + 60
    while arrived() != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert expected - arrived() == set()
    assert sink._outbox.lost == 0
    assert held < 20e6
    late = Client(broker.port, "late")
    keys = {0: "person", 1: "cell_phone", 2: "cell_phone_2", 3: "class"}
    late.wait(lambda: all(late.of(f"home/door/class/{key}") for key in keys.values()) and late.of("home/door/status"))
    for class_id, key in keys.items():
        assert late.of(f"home/door/class/{key}") == [b"ON" if states[class_id] else b"OFF"]
    assert late.of("home/door/status") == [b"online"]
    for each in (sink, client, late):
        each.close()
    broker.kill()


@needs_mosquitto
def test_the_last_will_says_offline(broker: Broker) -> None:
    client = Client(broker.port)
    sink = MqttSink(f"//127.0.0.1:{broker.port}/x")
    client.wait(lambda: client.of("x/status") == [b"online"])
    sock = sink._client.socket()
    assert sock is not None
    with socket.socket(fileno=os.dup(sock.fileno())) as connection:
        connection.shutdown(socket.SHUT_RDWR)  # as if the machine had gone
    client.wait(lambda: client.of("x/status")[:2] == [b"online", b"offline"])
    client.wait(lambda: client.of("x/status")[-1] == b"online")  # it comes back by itself
    sink.close()
    client.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves sockets to the collector
@needs_mosquitto
def test_passwords_come_from_files_and_certificates_are_checked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "1"]
    openssl(*request, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    (tmp_path / "password").write_text("secret\n")
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(tmp_path / "users"), "camera", "secret"], check=True, capture_output=True
    )
    broker = Broker(
        tmp_path,
        "allow_anonymous false",
        f"password_file {tmp_path}/users",
        f"certfile {tmp_path}/cert.pem",
        f"keyfile {tmp_path}/key.pem",
    )
    broker.start()
    try:
        address = f"mqtts://127.0.0.1:{broker.port}/x,username=camera"
        sink = open_sink(f"{address},password_file={tmp_path}/password,ca_file={tmp_path}/cert.pem")
        assert isinstance(sink, MqttsSink)
        for _ in range(2000):
            if sink._is_up:
                break
            time.sleep(0.005)
        assert sink._is_up
        sink.close()
        (tmp_path / "wrong").write_text("guessed\n")
        for settings in (
            f"password_file={tmp_path}/wrong,ca_file={tmp_path}/cert.pem",
            f"password_file={tmp_path}/password",
        ):
            caplog.clear()
            refused = open_sink(f"{address},{settings}")
            for _ in range(2000):
                if caplog.records:
                    break
                time.sleep(0.005)
            refused.close()
            assert "refuses" in caplog.text or "cannot be reached" in caplog.text
            assert "secret" not in caplog.text
            assert "guessed" not in caplog.text
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mqtt:host", "expected mqtt://HOST"),
        ("mqtt://", "expected mqtt://HOST"),
        ("mqtt://host:port", "expected mqtt://HOST"),
        ("mqtt://user:secret@host", r"mqtt://\*\*\*@host: users and passwords do not belong"),
        ("mqtt://host/a/#", "a topic has no"),
        ("mqtt://host/+/b", "a topic has no"),
        ("mqtt://host,password_file=nowhere", "needs a username"),
        ("mqtt://host,username=u,password_file=nowhere", "nowhere"),
        ("mqtt://host,ca_file=nowhere", "ca_file is for mqtts"),
        ("mqtts://host,ca_file=nowhere", "nowhere: certificates cannot be read"),
        ("mqtt://host,absent_s=-1", "absent_s must be"),
    ],
)
def test_what_cannot_be_is_said_at_once(spec: str, message: str) -> None:
    threads = threading.active_count()
    with pytest.raises(SinkError, match=message) as raised:
        open_sink(spec)
    assert "secret" not in str(raised.value)
    assert threading.active_count() == threads


@needs_mosquitto
def test_pictures_are_snapshots(broker: Broker) -> None:
    client = Client(broker.port)
    sink = MqttSink(f"//127.0.0.1:{broker.port}/x")
    client.wait(lambda: client.of("x/status"))
    for number in range(3):
        sink.write(picture_result(number))
    client.wait(lambda: client.of("x/snapshot"))
    sink.close()
    client.close()
    assert len(client.of("x/snapshot")) == 1


# Presence


def test_a_class_is_gone_after_a_while_only() -> None:
    presence = ClassPresence(1.0)
    changes = [
        [(c.class_name, c.present) for c in presence.update(found.detections)]
        for found in (
            seen(0, 0, time_s=10.0),
            seen(1, time_s=10.5),
            seen(2, 0, 0, time_s=10.9),
            seen(3, time_s=11.5),
            seen(4, time_s=11.9),
            seen(5, 1, time_s=12.0),
            seen(6, time_s=0.5),  # another stream, whose clock began anew
        )
    ]
    assert changes == [
        [("person", True)],
        [],
        [],
        [],
        [("person", False)],
        [("cell phone", True)],
        [("cell phone", False)],
    ]


# The outbox


class Sent:
    def __init__(self) -> None:
        self.now_s, self.acknowledges = 0.0, True
        self.topics: list[str] = []

    def is_published(self) -> bool:
        return self.acknowledges

    def __call__(self, topic: str, payload: bytes, retain: bool) -> Sent:
        self.topics.append(topic)
        return self


def test_the_outbox_sends_until_it_is_sure() -> None:
    sent = Sent()
    outbox = Outbox(sent, lambda: sent.now_s, settle_s=5, capacity=3)
    outbox.add("a", b"")
    assert sent.topics == []
    outbox.connected()
    assert sent.topics == ["a"]
    sent.now_s = 4
    outbox.settle()
    assert len(outbox) == 1  # the connection is too young
    sent.now_s = 5
    outbox.settle()
    assert sent.topics == ["a", "a"]
    outbox.add("b", b"")
    sent.now_s = 9
    outbox.disconnected()
    sent.now_s = 10
    outbox.settle()
    assert len(outbox) == 2
    outbox.connected()
    assert sent.topics == ["a", "a", "b", "a", "b"]
    sent.now_s = 15
    outbox.settle()
    sent.acknowledges = False
    sent.now_s = 21
    outbox.settle()
    assert len(outbox) == 2
    assert outbox.is_acknowledged is False
    sent.acknowledges = True
    outbox.settle()
    assert len(outbox) == 0
    outbox.disconnected()
    for topic in "cdefg":
        outbox.add(topic, b"")
    assert (len(outbox), outbox.lost) == (3, 2)
