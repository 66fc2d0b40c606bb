"""The examples for robots and homes run, on the synthetic camera."""

from __future__ import annotations

import importlib.util
import json
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from edge_isp import Picture, ReplayCamera, demo_recording, develop
from edge_isp.testing.sink import detections_result
from tests.sinks.brokers import Broker, Client, free_port, needs_mosquitto

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def camera(tmp_path: Path) -> str:
    Image.radial_gradient("L").convert("RGB").resize((640, 640)).save(tmp_path / "photo.png")
    return f"synthetic:{tmp_path}/photo.png,fps=10,width=448,height=448"


def test_steer_motor(camera: str, capsys: pytest.CaptureFixture[str]) -> None:
    example("steer_motor").main(camera, 50)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "+0.00 +0.00"
    assert len([line for line in lines if line[0] in "+-"]) == 51


def test_the_motor_turns_to_the_person() -> None:
    result = detections_result(0)
    at_the_left = replace(
        result.detections,
        class_names=("dog", "person"),
        xyxy=np.array([[0, 10, 8, 20], [0, 0, 64, 48]], np.float32),
        size=(64, 48),
    )
    speeds = example("steer_motor").speeds
    left, right = speeds(replace(result, result=at_the_left))
    assert left < right
    for box in ([0, 0, 1, 1], [63, 0, 64, 1]):  # far away, at an edge
        far = replace(at_the_left, xyxy=np.array([box, [0, 0, 64, 48]], np.float32))
        assert max(speeds(replace(result, result=far))) == 1.0


def test_two_cameras(camera: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = camera.replace("448", "64")
    module = example("two_cameras")
    monkeypatch.setattr(module, "TOLERANCE_S", 0.049)  # the two are opened one after the other
    module.main(small, small, 3)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "ms apart" in line]) == 3
    assert lines[-1].startswith("FrameCounts(")


@needs_mosquitto
def test_doorbell(camera: str, tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.start()
    client = Client(broker.port)
    client.wait(lambda: client.connections)
    try:
        example("doorbell").main(f"{camera},frames=20", f"mqtt://127.0.0.1:{broker.port}/door")
        client.wait(lambda: client.of("door/status")[-1:] == [b"offline"])
        assert client.of("door/detections")
    finally:
        client.close()
        broker.kill()


def test_fleet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    zenoh = pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")
    from edge_isp.sinks.zenoh import ZenohSink
    from tests.support.zenoh_alone import only_named_endpoints

    monkeypatch.setattr(zenoh, "Config", only_named_endpoints)

    port, stop = free_port(), threading.Event()
    sink = ZenohSink("fleet_test/door", listen=f"tcp/127.0.0.1:{port}")

    def publish() -> None:
        while not stop.wait(0.02):
            sink.write(detections_result(2))

    board = threading.Thread(target=publish)
    board.start()
    try:
        example("fleet").main("fleet_test", 4, f"tcp/127.0.0.1:{port}")
    finally:
        stop.set()
        board.join()
        sink.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "door: frame 2: dog, cat" in lines
    assert json.dumps(lines).count("door is there") <= 1


def test_time_lapse(camera: str, tmp_path: Path) -> None:
    small = camera.replace("448", "64")
    example("time_lapse").main(f"{small},frames=10", str(tmp_path / "pictures"), 0.5)
    assert len(list((tmp_path / "pictures").glob("*.jpg"))) == 2


def test_the_notebook_follows_a_frame_to_its_picture() -> None:
    notebook = json.loads((EXAMPLES / "one_frame.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    names: dict[str, object] = {}
    exec("\n".join(cells), names)
    with ReplayCamera(demo_recording()) as recording:
        frame = recording.read()
        assert frame is not None
        expected = develop(frame)
    picture = names["picture"]
    assert isinstance(picture, Picture)
    assert np.array_equal(picture.rgb, expected)
