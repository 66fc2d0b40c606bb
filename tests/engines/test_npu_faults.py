"""NPUs that hang, come late or become wrong: the CPU takes over at once, and no wrong frames last a second."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp.bench.model import measure_model
from edge_isp.bench.plan import Plan, Subject
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.engines import candidates, delegates, fallback, process
from edge_isp.engines.base import EngineEvent, EngineReport
from edge_isp.engines.checks import SpotChecks, part_size, regions
from edge_isp.engines.cpu import CpuEngine
from edge_isp.engines.delegates import DelegateSpec
from edge_isp.engines.fallback import Delegation, FallbackEngine
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.parity import ParityLimits
from edge_isp.errors import EngineError, PluginError
from edge_isp.pipeline import DelegateChange, ModelOptions, Pipeline, StreamOptions
from tests.engines.npu_tools import SMALL, codes

Npus = Callable[..., None]
HEIGHT, WIDTH = 64, 72
RADIUS = SMALL.receptive_field_radius or 0
PERIOD_S = 1 / 30


class Clock:
    """A clock that stands still but for what a test moves it by."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def frame(seed: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> list[NDArray[Any]]:
    """A scene that does not move, so that the noise alone tells one frame from the next."""
    return [codes(*size, seed=seed)]


def opened(delegate: str = "auto", *, size: tuple[int, int] = (HEIGHT, WIDTH), **settings: Any) -> FallbackEngine:
    delegation = Delegation(delegate, **settings.pop("delegation", {}))
    settings = {"engine": "slow", "live": False, "radius": RADIUS, "threads": 1, **settings}
    engine = FallbackEngine(SMALL.path, delegation=delegation, **settings)
    engine.resize((1, *size, 8))
    return engine


def settled(engine: FallbackEngine, size: tuple[int, int] = (HEIGHT, WIDTH)) -> EngineReport:
    """Runs frames until the fastest candidate runs them."""
    for seed in range(5):
        engine.run(frame(seed, size))
    assert engine.settle(60)
    engine.run(frame(5, size))
    return engine.report


def kinds(report: EngineReport) -> list[tuple[str, str]]:
    return [(event.kind, event.delegate) for event in report.events]


# Choosing


def test_the_fastest_verified_candidate_runs_and_the_next_takes_over(faulty_npu: Npus, tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    fast = {"fault": "exception", "at": "run", "flag": str(flag)}
    faulty_npu(middle={"milliseconds": "5"}, fast=fast, slowest={"milliseconds": "100"})
    with opened() as engine:
        report = settled(engine)
        assert report.delegate == "fast"
        chosen = [event for event in report.events if event.kind == "chosen"]
        assert all(" ms, CPU " in event.reason for event in chosen)  # both times
        (slow,) = [event for event in report.events if (event.kind, event.delegate) == ("slower", "slowest")]
        assert "it works and agrees with the CPU, and takes 1" in slow.reason
        flag.touch()
        engine.run(frame(6))
        assert engine.report.delegate == "XNNPACK"  # the same frame
        assert engine.settle(60)
        engine.run(frame(7))
        assert engine.report.delegate == "middle"


def test_auto_keeps_the_cpu_where_it_is_faster_and_a_demanded_npu_runs(faulty_npu: Npus) -> None:
    faulty_npu(crawling={"milliseconds": "100"})
    with opened() as engine:
        assert settled(engine).delegate == "XNNPACK"
        assert kinds(engine.report) == [("slower", "crawling")]
        assert "the CPU " in engine.report.events[0].reason
    with opened("crawling") as engine:
        engine.run(frame(0))
        assert engine.report.delegate == "crawling"
        assert "(faster)" in engine.report.events[0].reason


def test_a_benchmark_of_the_model_measures_what_is_chosen(faulty_npu: Npus) -> None:
    faulty_npu(npu={})
    plan = Plan(warmup=10, warmup_s=0.0, frames=10, duration_s=0.0)
    report = measure_model(Subject(SMALL.name, engine="slow", threads=1), plan, width=2 * WIDTH, height=2 * HEIGHT)
    assert report.software.delegate
    assert report.software.delegate.name == "npu"


# What hangs


@pytest.mark.parametrize("radius", [RADIUS, None])
def test_no_engine_is_loaded_in_this_process_while_frames_stream(
    faulty_npu: Npus, monkeypatch: pytest.MonkeyPatch, radius: int | None
) -> None:
    """LiteRT's interpreter keeps the global lock while it is loaded: frames would wait up to half a second for it."""
    loaded: list[tuple[bool, tuple[int, ...]]] = []

    class Recorded(CpuEngine):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            loaded.append((threading.current_thread() is threading.main_thread(), self.inputs[0].shape[1:3]))

    monkeypatch.setattr(fallback, "CpuEngine", Recorded)
    faulty_npu(npu={})
    with opened(radius=radius) as engine:
        engine.run(frame(0))
        after_the_first = [(True, SMALL.input.shape[1:3]), *([(True, (50, 50))] if radius else [])]
        assert loaded == after_the_first
        assert settled(engine).delegate == "npu"
        engine.resize((1, 56, WIDTH, 8))  # a part is no smaller than before
        assert settled(engine, (56, WIDTH)).delegate == "npu"
        assert loaded == after_the_first


def test_whole_frames_are_compared_where_a_part_cannot_be_loaded(
    faulty_npu: Npus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(CpuEngine):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            if "shape" in settings:
                raise EngineError("no memory for another one")
            super().__init__(*arguments, **settings)

    monkeypatch.setattr(fallback, "CpuEngine", Refusing)
    faulty_npu(npu={})
    with opened() as engine:
        assert settled(engine).delegate == "npu"
    assert "NPUs are checked on whole frames, more rarely: no memory for another one" in caplog.text


@pytest.mark.parametrize("stage", ["load", "run"])
def test_frames_do_not_wait_for_a_candidate_that_hangs(faulty_npu: Npus, stage: str) -> None:
    faulty_npu(hanging={"fault": "hang", "at": stage})
    with opened() as engine:
        for seed in range(5):
            engine.run(frame(seed))
        assert not engine.settle(0)  # it still hangs, and five frames are done
        assert dict(engine.report.frames) == {"XNNPACK": 5}


@pytest.mark.parametrize("stage", ["load", "run"])
def test_a_lost_npu_that_hangs_when_it_is_tried_again_holds_no_frame(
    faulty_npu: Npus, tmp_path: Path, stage: str
) -> None:
    flag, clock = tmp_path / "broken", Clock()
    faulty_npu(npu={"fault": "hang", "at": stage, "flag": str(flag)})
    with opened(clock=clock, delegation={"time_limit_s": 0.5}) as engine:
        assert settled(engine).delegate == "npu"
        flag.touch()
        if stage == "load":
            assert engine._active
            os.kill(engine._active.engine._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        engine.run(frame(6))
        assert kinds(engine.report)[-1] == ("dropped", "npu")
        clock.now_s += 10
        engine.run(frame(7))
        assert not engine.settle(0)
        engine.run(frame(8))
        assert engine.report.delegate == "XNNPACK"


def test_the_first_inference_has_a_limit_of_its_own(faulty_npu: Npus, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty_npu(compiling={"milliseconds": "300", "fault": "first"})
    with opened("compiling", delegation={"time_limit_s": 0.2}) as engine:
        engine.run(frame(0))
        assert engine.report.delegate == "compiling"
        assert engine.report.first_inference_ns > 300e6
    faulty_npu(compiling={"milliseconds": "20000", "fault": "first"})
    monkeypatch.setattr(candidates, "_FIRST_LIMIT_S", 0.2)
    with opened("compiling") as engine, pytest.raises(EngineError, match="did not answer within 0.2 s"):
        engine.run(frame(0))


def test_a_live_frame_waits_for_the_cpu_alone_when_the_npu_hangs(faulty_npu: Npus, tmp_path: Path) -> None:
    flag, clock = tmp_path / "broken", Clock()
    faulty_npu(npu={"fault": "hang", "at": "run", "flag": str(flag)})
    with opened(clock=clock, live=True) as engine:
        assert settled(engine).delegate == "npu"
        flag.touch()
        for seed in range(3):
            engine.run(frame(seed))
            clock.now_s += PERIOD_S
        assert kinds(engine.report)[-1] == ("late", "npu")  # it may still answer
        assert dict(engine.report.frames)["XNNPACK"] >= 3
        clock.now_s += 5
        engine.run(frame(3))
        assert kinds(engine.report)[-1] == ("dropped", "npu")
        assert "did not answer within 5 s; its process was ended" in engine.report.events[-1].reason


def test_what_hangs_while_it_is_unloaded_holds_no_frame_and_leaves_no_process(
    faulty_npu: Npus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_LEAVE_S", 0.5)
    released = threading.Event()
    close = process.ProcessEngine.close

    def closing(engine: process.ProcessEngine) -> None:
        assert released.wait(60)
        close(engine)

    monkeypatch.setattr(process.ProcessEngine, "close", closing)
    faulty_npu(npu={"fault": "hang", "at": "unload"})
    with opened() as engine:
        assert settled(engine).delegate == "npu"
        assert engine._active
        process_of_npu = engine._active.engine._process
        engine.resize((1, HEIGHT, HEIGHT, 8))
        engine.run(frame(0, (HEIGHT, HEIGHT)))  # it is still being unloaded
        assert process_of_npu is not None
        assert process_of_npu.poll() is None
        released.set()
    assert process_of_npu.poll() is not None


# What is late


def test_a_late_npu_is_asked_again_in_the_background(faulty_npu: Npus, tmp_path: Path) -> None:
    flag, clock = tmp_path / "late", Clock()
    faulty_npu(npu={"fault": "late", "flag": str(flag)})
    with opened(clock=clock, live=True) as engine:
        assert settled(engine).delegate == "npu"
        engine.run(frame(0))
        flag.touch()
        made = []
        for seed in range(8):
            if seed == 2:
                flag.unlink()
            engine.run(frame(seed))
            made.append(engine.report.delegate)
            assert engine._active
            if made[-1] != "npu":
                engine._active.engine.wait(60)  # until it has answered
        assert made[0] == made[1] == "XNNPACK"
        assert made[-1] == "npu"
        assert kinds(engine.report)[-2:] == [("late", "npu"), ("restored", "npu")]


def test_an_npu_that_is_always_late_is_dropped(faulty_npu: Npus, tmp_path: Path) -> None:
    flag = tmp_path / "late"
    faulty_npu(npu={"fault": "late", "flag": str(flag)})
    with opened(live=True, clock=Clock()) as engine:
        assert settled(engine).delegate == "npu"
        flag.touch()
        for seed in range(13):
            engine.run(frame(seed))
            if engine._active is not None:
                engine._active.engine.wait(60)
        assert kinds(engine.report)[-1] == ("dropped", "npu")
        assert "answers too late: 11 times" in engine.report.events[-1].reason


def test_a_pause_of_this_process_is_not_the_npus(faulty_npu: Npus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that comes back after a long time counts as the step that it was asked for."""

    class PausedPoll:
        polls = 0

        def register(self, *_: object) -> None:
            pass

        def poll(self, milliseconds: float) -> list[Any]:
            self.polls += 1
            assert milliseconds <= 10
            return [1] if self.polls == 3 else []  # two steps, however long they were

    faulty_npu(npu={})
    with opened("npu") as engine:
        engine.run(frame(0))
        assert engine._active
        with monkeypatch.context() as patched:
            patched.setattr("edge_isp.engines.process.select.poll", PausedPoll)
            assert engine._active.engine.wait(0.02)


# What is wrong


@pytest.mark.parametrize("arithmetic", ["", "plain"])
@pytest.mark.parametrize("fault", ["shifted", "stale", "frozen", "swapped", "offset"])
def test_wrong_outputs_are_found_within_a_second(faulty_npu: Npus, tmp_path: Path, fault: str, arithmetic: str) -> None:
    flag, clock = tmp_path / "wrong", Clock()
    faulty_npu(npu={"fault": fault, "flag": str(flag), "arithmetic": arithmetic})
    with opened("npu", engine="litert", clock=clock, delegation={"check_every": 0}) as engine:
        for number in range(1, 110):
            if number == 75:  # whole frames are compared on the 64th and the 128th
                flag.touch()
            engine.run(frame(number))
            clock.now_s += PERIOD_S
            if number < 75:
                assert engine.report.delegate == "npu", engine.report.events
        assert kinds(engine.report)[-1] == ("dropped", "npu")
        assert engine.report.events[-1].frame < 75 + 30


@pytest.mark.parametrize("fault", ["shifted", "stale", "frozen", "swapped", "offset"])
def test_whole_frames_are_compared_where_there_are_no_parts(faulty_npu: Npus, tmp_path: Path, fault: str) -> None:
    flag, clock, size = tmp_path / "wrong", Clock(), (12, 16)
    faulty_npu(npu={"fault": fault, "flag": str(flag), "arithmetic": "plain"})
    with opened("npu", engine="litert", size=size, clock=clock, radius=None, delegation={"check_every": 0}) as engine:
        for number in range(1, 110):
            if number == 75:
                flag.touch()
            engine.run(frame(number, size))
            clock.now_s += PERIOD_S
        assert kinds(engine.report) == [("chosen", "npu"), ("dropped", "npu")]
        assert 75 <= engine.report.events[-1].frame < 75 + 30


def test_parts_are_the_whole_frames_values_and_cover_it() -> None:
    with LiteRtEngine(SMALL.path, threads=1, shape=(1, HEIGHT, WIDTH, 8)) as whole:
        inputs, outputs = whole.inputs, whole.outputs
        expected = whole.run(frame(0))
    part = part_size(inputs, outputs, RADIUS, 1)
    assert part == (50, 50)
    seen = np.zeros(outputs[0].shape, bool)
    with LiteRtEngine(SMALL.path, threads=1, shape=(1, *part, 8)) as small:
        for region in regions(inputs[0].shape, (1, *part, 8), RADIUS, 1):
            found = region.of_part(small.run([region.cut(frame(0)[0])])[0])
            np.testing.assert_array_equal(found, region.of_whole(expected[0], HEIGHT))
            region.of_whole(seen, HEIGHT)[...] = True
    assert seen.all()


def test_outputs_that_are_not_finite_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of float outputs, with a hole outside all parts that are compared."""
    with LiteRtEngine(SMALL.path, threads=1, shape=(1, 50, 50, 8)) as cpu:
        checks = SpotChecks(
            cpu,
            inputs=[info_of(cpu.inputs[0], (1, HEIGHT, WIDTH, 8))],
            outputs=cpu.outputs,
            limits=ParityLimits(),
            radius=RADIUS,
            multiple=1,
            usual_rms_lsb=[0.0],
            same_results=lambda found, reference: "",
            clock=Clock(),
        )
        broken = np.zeros((1, HEIGHT, WIDTH, 12), np.float32)
        broken[0, -1, -1, 0] = np.nan
        checks.check(frame(0), [broken])
        with pytest.raises(EngineError, match="output 'tail' has values that are not finite"):
            checks.check(frame(1), [broken])


def info_of(info: Any, shape: tuple[int, ...]) -> Any:
    from dataclasses import replace

    return replace(info, shape=shape)


# What is raised


def test_any_exception_of_a_package_refuses_or_drops_its_npu(faulty_npu: Npus, tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    for stage in ("load", "run"):
        faulty_npu(npu={"fault": "exception", "at": stage})
        with opened() as engine:
            assert settled(engine).delegate == "XNNPACK"
            assert kinds(engine.report) == [("refused", "npu")]
            assert "Exception: the vendor's package failed" in engine.report.events[0].reason
    faulty_npu(npu={"fault": "exception", "at": "run", "flag": str(flag)})
    with opened() as engine:
        assert settled(engine).delegate == "npu"
        flag.touch()
        engine.run(frame(6))
        assert kinds(engine.report)[-1] == ("dropped", "npu")
        assert "Exception: the vendor's package failed" in engine.report.events[-1].reason


@pytest.mark.parametrize("name", ["memfd_create", "socketpair", "Popen", "mmap"])
def test_what_the_system_refuses_refuses_the_npu(faulty_npu: Npus, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    faulty_npu(npu={})
    place = {"memfd_create": "os", "socketpair": "socket", "Popen": "subprocess", "mmap": "mmap"}[name]
    with opened() as engine:
        with monkeypatch.context() as patched:
            patched.setattr(f"edge_isp.engines.process.{place}.{name}", refuse)
            assert settled(engine).delegate == "XNNPACK"
        assert kinds(engine.report) == [("refused", "npu")]
        assert "Too many open files" in engine.report.events[0].reason


def test_a_search_that_fails_refuses_its_npu_alone(faulty_npu: Npus, monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(spec: DelegateSpec, *, packages: bool) -> Any:
        if spec.name == "broken":
            raise RuntimeError("no driver")
        return delegates.probe(spec, packages=packages)

    monkeypatch.setattr("edge_isp.engines.candidates.probe", probe)
    faulty_npu(broken={}, npu={})
    with opened() as engine:
        assert settled(engine).delegate == "npu"
        assert [(event.delegate, event.reason) for event in engine.report.events if event.kind == "refused"] == [
            ("broken", "RuntimeError: no driver")
        ]


def test_another_packages_delegate_that_cannot_be_loaded_is_refused(
    faulty_npu: Npus, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        name = value = "broken"

        @staticmethod
        def load() -> None:
            raise RuntimeError("no driver")

    faulty_npu(npu={})
    monkeypatch.setattr(delegates, "entry_points", lambda group: [Broken()])
    with opened() as engine:
        assert settled(engine).delegate == "npu"
        assert kinds(engine.report)[0] == ("refused", "broken")
    with pytest.raises(PluginError, match="delegate 'broken': broken cannot be loaded: RuntimeError: no driver"):
        opened("npu")


# Events


def test_events_reach_on_event(faulty_npu: Npus, tmp_path: Path, recording: Callable[..., Path]) -> None:
    flag = tmp_path / "broken"
    faulty_npu(npu={"fault": "exception", "at": "run", "flag": str(flag)})
    events: list[object] = []
    camera = ReplayCamera(recording(frames=6, width=32, height=24))
    options = ModelOptions(SMALL.name, threads=1, delegation=Delegation("npu"))
    with Pipeline(camera, options, StreamOptions(on_event=events.append)) as pipeline:
        for number, _ in enumerate(pipeline):
            if number == 1:
                flag.touch()
    changes = [event for event in events if isinstance(event, DelegateChange)]
    assert [(change.model, change.kind, change.delegate) for change in changes] == [
        (SMALL.name, "chosen", "npu"),
        (SMALL.name, "dropped", "npu"),
    ]
    assert "the vendor's package failed" in changes[1].reason


def test_an_engine_reports_events_but_what_is_absent(faulty_npu: Npus) -> None:
    faulty_npu(npu={"fault": "exception", "at": "load"})
    events: list[EngineEvent] = []
    with opened(on_event=events.append) as engine:
        settled(engine)
        assert events == list(engine.report.events)
