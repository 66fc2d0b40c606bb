"""Cameras that fail and come back, stages that do not, and what the service manager is told."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from edge_isp.cameras.faults import Corrupt, Disconnect, Drop, FaultScript, Late, TimestampJump, Truncate
from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.errors import CameraError, FormatError
from edge_isp.pipeline import (
    DropReason,
    FramesDropped,
    ModelOptions,
    Pipeline,
    PipelineState,
    QueuePolicy,
    ReconnectPolicy,
    StateChange,
    StreamOptions,
)
from edge_isp.pipeline.watchdog import Systemd
from tests.support.scripted import ScriptedCamera, ScriptedEngine, SimulatedClock, engine, hang_at

__all__ = ["engine"]

SCRIPTED = ModelOptions(engine="scripted")


def opener(*scripts: object) -> tuple[Callable[[], ScriptedCamera], list[ScriptedCamera]]:
    """Opens a camera for each script, in order; an exception in place of one is raised."""
    remaining, opened = iter(scripts), []

    def open_camera() -> ScriptedCamera:
        script = next(remaining)
        if isinstance(script, BaseException):
            raise script
        opened.append(ScriptedCamera(script))  # type: ignore[arg-type]
        return opened[-1]

    return open_camera, opened


def test_a_camera_that_fails_is_opened_again_and_the_waits_grow(engine: type[ScriptedEngine]) -> None:
    open_camera, opened = opener(
        [0, 1, CameraError("unplugged")],
        CameraError("not there"),
        OSError("not there either"),
        [CameraError("not yet")],
        [2, FormatError("truncated")],
        [3],
    )
    clock, states = SimulatedClock(), []

    def on_event(event: object) -> None:
        if isinstance(event, StateChange):
            states.append((event.state, event.reason))

    reconnect = ReconnectPolicy(first_wait_s=0.5, longest_wait_s=1.5)
    with Pipeline(
        open_camera,
        SCRIPTED,
        StreamOptions(policy=QueuePolicy.BLOCK, clock=clock, reconnect=reconnect, on_event=on_event),
    ) as pipeline:
        assert pipeline.camera is None
        assert [done.sequence for done in pipeline] == [0, 1, 2, 3]
        assert pipeline.restarts == 3
    assert clock.waits_s == [0.5, 1.0, 1.5, 1.5, 0.5]
    assert all(camera.closed.is_set() for camera in opened)
    assert states == [
        (PipelineState.STARTING, ""),
        (PipelineState.RUNNING, ""),
        (PipelineState.RECOVERING, "unplugged"),
        (PipelineState.RUNNING, ""),
        (PipelineState.RECOVERING, "truncated"),
        (PipelineState.RUNNING, ""),
        (PipelineState.ENDED, ""),
    ]


def test_so_many_attempts_and_no_more(engine: type[ScriptedEngine]) -> None:
    open_camera, _ = opener([0, CameraError("first")], CameraError("second"), CameraError("third"), [1])
    with Pipeline(
        open_camera,
        SCRIPTED,
        StreamOptions(policy=QueuePolicy.BLOCK, clock=SimulatedClock(), reconnect=ReconnectPolicy(attempts=2)),
    ) as pipeline:
        results = iter(pipeline)
        assert next(results).sequence == 0
        with pytest.raises(CameraError, match="third"):
            next(results)


def test_what_cannot_be_opened_again_ends(engine: type[ScriptedEngine]) -> None:
    with Pipeline(
        ScriptedCamera([0, CameraError("unplugged"), 1]), SCRIPTED, StreamOptions(policy=QueuePolicy.BLOCK)
    ) as pipeline:
        results = iter(pipeline)
        assert next(results).sequence == 0
        with pytest.raises(CameraError, match="unplugged"):
            next(results)
    open_camera, _ = opener(CameraError("never there"))
    with (
        Pipeline(open_camera, SCRIPTED) as pipeline,
        pytest.raises(CameraError, match="never there"),
    ):
        next(iter(pipeline))


def test_a_camera_that_does_not_come_back_is_closed_under_its_reader(engine: type[ScriptedEngine]) -> None:
    """It ignores the time limit of `read`, but comes back when it is closed."""
    clock = SimulatedClock()
    hung = threading.Event()
    first: list[ScriptedCamera] = []

    def hang() -> None:
        hung.set()
        first[0].closed.wait()

    def open_camera() -> ScriptedCamera:
        if first:
            return ScriptedCamera([1])
        first.append(ScriptedCamera([0, hang]))
        return first[0]

    states: list[tuple[PipelineState, str]] = []

    def on_event(event: object) -> None:
        if isinstance(event, StateChange):
            states.append((event.state, event.reason))

    with Pipeline(
        open_camera, SCRIPTED, StreamOptions(policy=QueuePolicy.BLOCK, clock=clock, on_event=on_event)
    ) as pipeline:
        results = iter(pipeline)
        assert next(results).sequence == 0
        hung.wait()
        clock.advance(11 * 10**9)  # twice the time that a camera may be silent for, and more
        assert pipeline._stream is not None
        pipeline._stream.watchdog.look()
        assert [done.sequence for done in results] == [1]
        assert pipeline.restarts == 1
    assert states.index((PipelineState.STALLED, "does not respond: camera")) > 0
    assert any(s is PipelineState.RECOVERING and "did not respond" in reason for s, reason in states)


def test_a_hanging_engine_is_seen_and_nothing_is_told_to_systemd(
    engine: type[ScriptedEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(60)
        monkeypatch.setattr(os, "environ", {**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3600000000"})
        monkeypatch.setattr(Systemd.__init__, "__defaults__", (os.environ,))
        clock, hung, go_on = SimulatedClock(), threading.Event(), threading.Event()
        engine.on_run = hang_at(1, hung, go_on)
        camera = ScriptedCamera([0, 1, go_on.wait], live=False)
        with Pipeline(camera, SCRIPTED, StreamOptions(clock=clock, notify_systemd=True)) as pipeline:
            results = iter(pipeline)
            next(results)
            hung.wait()
            assert pipeline._stream is not None
            watchdog = pipeline._stream.watchdog
            watchdog.look()
            clock.advance(11 * 10**9)
            watchdog.look()
            stalled = pipeline.state
            go_on.set()
            assert len(list(results)) == 1
            watchdog.look()
            assert (stalled, pipeline.state) == (PipelineState.STALLED, PipelineState.ENDED)
        messages: list[str] = []
        while not messages or messages[-1] != "STOPPING=1":
            messages.append(manager.recv(4096).decode())
    assert messages == [
        "STATUS=starting",
        "STATUS=running",
        "READY=1",
        "WATCHDOG=1",
        "STATUS=stalled: does not respond: camera, rfdcsanet-s: infer",
        "STATUS=ended",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_who_waits_for_signs_of_life() -> None:
    here = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000"}
    assert Systemd(here).watchdog_s == 3.0
    assert Systemd(here | {"WATCHDOG_PID": str(os.getpid())}).watchdog_s == 3.0
    assert Systemd(here | {"WATCHDOG_PID": "1"}).watchdog_s is None
    assert Systemd({"WATCHDOG_USEC": "3000000"}).watchdog_s is None
    for unusable in ("soon", "", "0", "-1", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 5000, "9" * 400):
        assert Systemd(here | {"WATCHDOG_USEC": unusable}).watchdog_s is None
    Systemd({"NOTIFY_SOCKET": "/nobody/listens"}).notify("READY=1")
    Systemd({}).notify("READY=1")


def test_abstract_sockets() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"edge-isp-test-{os.getpid()}"
        manager.bind(f"\0{name}")
        manager.settimeout(60)
        Systemd({"NOTIFY_SOCKET": f"@{name}"}).notify("READY=1", "STATUS=x")
        assert manager.recv(100) == b"READY=1\nSTATUS=x"


def test_a_service_is_ready_gives_signs_of_life_and_stops(tmp_path: Path) -> None:
    """`edge-isp run` under a service manager's socket, from start to SIGTERM."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(120)
        photo = tmp_path / "photo.png"
        Image.new("RGB", (64, 48), (120, 130, 140)).save(photo)
        command = [sys.executable, "-m", "edge_isp", "run", "--json"]
        service = subprocess.Popen(
            [*command, "--camera", f"synthetic:{photo},width=64,height=48,fps=50"],
            env={**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"},
            stdout=subprocess.PIPE,
        )
        assert service.stdout is not None
        seen: set[str] = set()
        try:
            assert service.stdout.readline()  # a service that was stopped before its first result has failed
            while not {"READY=1", "WATCHDOG=1"} <= seen:
                seen.add(manager.recv(4096).decode())
            assert "STATUS=running" in seen
            service.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in seen:
                seen.add(manager.recv(4096).decode())
            service.communicate(timeout=60)
            assert service.returncode == 0
        finally:
            service.kill()
            service.communicate()


def test_the_scripted_faults_of_the_synthetic_camera_are_all_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real kernels and the real engine; the camera's clock is slow, so that it is never late."""
    ticks = itertools.count(time.monotonic_ns(), 1_000_000)
    monkeypatch.setattr("edge_isp.cameras.synthetic.time", types.SimpleNamespace(monotonic_ns=lambda: next(ticks)))
    photo = tmp_path / "photo.png"
    Image.new("RGB", (32, 24), (120, 130, 140)).save(photo)
    script = FaultScript(
        [
            Drop(5, 3),
            Corrupt(12),
            Truncate(20, 100),
            Disconnect(30, failed_openings=2),
            TimestampJump(40, -(10**11)),
            Late(50, 10_000_000),
        ]
    )
    losses: list[tuple[int, int, DropReason]] = []

    def on_event(event: object) -> None:
        if isinstance(event, FramesDropped):
            losses.append((event.sequence, event.frames, event.cause))

    with Pipeline(
        lambda: SyntheticCamera(photo, width=32, height=24, fps=200, frames=60, faults=script),
        stream=StreamOptions(
            reconnect=ReconnectPolicy(first_wait_s=0.001),
            policy=QueuePolicy.BLOCK,
            max_age_s=60,
            on_event=on_event,
        ),
    ) as pipeline:
        delivered = [done.sequence for done in pipeline]
        assert pipeline.restarts == 1
    assert losses[:3] == [(5, 3, DropReason.SENSOR_GAP), (12, 1, DropReason.CORRUPTED), (20, 1, DropReason.CORRUPTED)]
    # After the jump one time stamp is bad, and says nothing; the others are good ones, and too old.
    assert losses[3:] == [(number, 1, DropReason.STALE) for number in range(41, 60)]
    assert sorted(delivered) == [n for n in range(41) if n not in (5, 6, 7, 12, 20)]
    counts = pipeline.counts
    assert (counts.frames, counts.delivered, counts.in_flight) == (60, len(delivered), 0)
