"""Sinks on their own: the protocol, PNG files, drawing, and the conformance suite itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edge_isp
from edge_isp import plugins
from edge_isp.calibration.profile import load_profile
from edge_isp.errors import PipelineError, PluginError, ProfileError, SinkError
from edge_isp.pipeline import ModelOptions, Pipeline, QueuePolicy
from edge_isp.results import FrameResult
from edge_isp.sinks import image_files
from edge_isp.sinks.annotate import picture_of
from edge_isp.sinks.png import PngSink
from edge_isp.sinks.spec import open_sink
from edge_isp.tasks.classical import ClassicalIsp
from edge_isp.testing import check_sink
from edge_isp.testing.sink import detections_result, picture_result
from tests.support.scripted import ScriptedCamera, ScriptedEngine, engine

__all__ = ["engine"]


class Memory:
    """A sink that keeps its results; faults on request."""

    needs_raw = False

    def __init__(self, kind: str = "memory", *, capacity: int | None = None, strict: bool = True) -> None:
        self.kind, self.capacity, self.strict = kind, capacity, strict
        self.written: list[FrameResult] = []
        self.closed = False

    def write(self, result: FrameResult) -> None:
        if self.closed and self.strict:
            raise SinkError("memory: the sink is closed")
        self.written.append(result)

    def close(self) -> None:
        self.closed = True


def test_the_png_sink_conforms(tmp_path: Path) -> None:
    check_sink(lambda: PngSink(tmp_path), spec=f"png:{tmp_path}")


def test_png_writes_pictures_and_draws_detections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "session_name", lambda start: "20261128T101500Z")
    sink = PngSink(tmp_path)
    picture, found = picture_result(0), detections_result(2, raw=True)
    sink.write(picture)
    sink.write(found)
    sink.close()
    names = ["check_sink_20261128T101500Z_000000.png", "check_sink_20261128T101500Z_000002.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with Image.open(tmp_path / names[0]) as image:
        np.testing.assert_array_equal(np.asarray(image), picture.picture.rgb)
    with Image.open(tmp_path / names[1]) as image:
        np.testing.assert_array_equal(np.asarray(image), picture_of(found).rgb)


def test_detections_are_drawn_on_a_picture_of_the_frame() -> None:
    picture = picture_result(3)
    assert picture_of(picture) is picture.result
    nothing, found = detections_result(1, raw=True), detections_result(2, raw=True)
    assert nothing.raw is not None
    assert found.raw is not None
    developer = ClassicalIsp()
    plain = developer.develop(found.raw).rgb
    np.testing.assert_array_equal(picture_of(nothing, developer).rgb, developer.develop(nothing.raw).rgb)
    drawn = picture_of(found, developer).rgb
    np.testing.assert_array_equal(drawn, picture_of(found).rgb)
    changed = (drawn != plain).any(2)
    assert changed[24, 8]  # the left edge of the first box
    assert not changed[26:28, 12:36].any()
    with pytest.raises(SinkError, match="check_sink.raw: the detections in frame 2 cannot be drawn .*keep_raw=True"):
        picture_of(detections_result(2))


def test_png_by_specification(tmp_path: Path) -> None:
    sink = open_sink(f"png:{tmp_path / 'new'}")
    assert isinstance(sink, PngSink)
    assert sink.folder == tmp_path / "new"
    assert isinstance(edge_isp.open_sink(f"png:{tmp_path}"), PngSink)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "pgn:out",
            "sink 'pgn:out': there is no sink named 'pgn'; did you mean 'png'.; there are: .*memory, mqtt",
        ),
        ("png", "sink 'png': folder is missing; expected png:FOLDER"),
        ("png:out,quality=3", "sink 'png:out,quality=3': unknown quality; 'png' knows: tone, every, interval_s, daily"),
        ("png:out,profile=mine.toml", "profile cannot be set in a specification"),
        ("memory:x,capacty=3", "unknown capacty; did you mean 'capacity'.; 'memory' knows: capacity, strict"),
        ("memory:x,capacity=many", "capacity must be a whole number or none, found 'many'"),
        ("memory:x,strict=maybe", "strict must be yes or no, found 'maybe'"),
        ("x" * 5000, r"sink 'x{100}\.\.\.': there is no sink named 'x{100}\.\.\.'; there are"),
    ],
)
def test_wrong_specifications_are_one_clear_error(spec: str, message: str, memory_plugin: None) -> None:
    with pytest.raises(SinkError, match=message) as error:
        open_sink(spec)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


@pytest.fixture
def memory_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins.BUILT_IN["sinks"], "memory", plugins.Spec("tests.sinks.test_sinks:Memory"))


def test_settings_have_the_types_of_the_parameters(memory_plugin: None) -> None:
    sink = open_sink("memory:7,capacity=3,strict=no")
    assert isinstance(sink, Memory)
    assert (sink.kind, sink.capacity, sink.strict) == ("7", 3, False)
    sink = open_sink("memory,capacity=none")
    assert isinstance(sink, Memory)
    assert (sink.kind, sink.capacity, sink.strict) == ("memory", None, True)


@pytest.mark.parametrize("tone", ["camera", "srgb"])
@pytest.mark.parametrize("by_specification", [False, True])
def test_the_tone_reaches_the_pictures_of_raw_frames(tmp_path: Path, tone: str, by_specification: bool) -> None:
    result = detections_result(2, raw=True)  # the frame of 0 is black
    assert result.raw is not None
    expected = picture_of(result, ClassicalIsp(tone=tone)).rgb
    spec = f"png:{tmp_path}"
    other = "srgb" if tone == "camera" else "camera"
    with closing(open_sink(f"{spec},tone={tone}", tone=other) if by_specification else open_sink(spec, tone=tone)) as s:
        s.write(result)
    (path,) = tmp_path.iterdir()
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert np.any(expected != picture_of(result, ClassicalIsp(tone=other)).rgb)


SPECS_WITH_PICTURES = ["png:{}", "jpeg:{}", "shm:edge-isp-test-tone", "video:{}/x.mp4", "udp://127.0.0.1:9"]


@pytest.mark.parametrize("spec", SPECS_WITH_PICTURES)
def test_every_sink_of_pictures_has_the_tone_and_the_profile(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if spec.startswith(("video", "udp")):
        pytest.importorskip("av", reason="needs the extra [video]")
    made: list[tuple[Any, str]] = []
    monkeypatch.setattr(
        ClassicalIsp, "__init__", lambda self, profile=None, *, tone="camera": made.append((profile, tone))
    )
    profile = load_profile("imx477")
    open_sink(spec.format(tmp_path), profile=profile, tone="srgb").close()
    assert made == [(profile, "srgb")]


def test_a_wrong_tone_opens_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="tone must be one of camera, srgb, found 'sgrb'; did you mean 'srgb'"):
        open_sink(f"png:{tmp_path / 'new'},tone=sgrb")
    assert not (tmp_path / "new").exists()


def test_the_policy_of_a_specification_reaches_the_pipeline(
    memory_plugin: None, monkeypatch: pytest.MonkeyPatch, engine: type[ScriptedEngine]
) -> None:
    sink = open_sink("memory:x,policy=buffered(7),capacity=3")
    assert isinstance(sink, Memory)
    assert (sink.kind, sink.capacity) == ("x", 3)
    with Pipeline(ScriptedCamera([]), ModelOptions(engine="scripted")) as pipeline:
        assert pipeline.add_sink(sink).policy == QueuePolicy.buffered(7)
        assert pipeline.add_sink(open_sink("memory:x")).policy is None
        given = pipeline.add_sink(open_sink("memory:x,policy=latest"), policy=QueuePolicy.BLOCK)
        assert given.policy == QueuePolicy.BLOCK
        with pytest.raises(PipelineError, match="policy must be 'latest', 'block' or 'buffered"):
            pipeline.add_sink(open_sink("memory:x,policy=wait"))
    monkeypatch.setitem(plugins.BUILT_IN["sinks"], "narrow", plugins.Spec("tests.sinks.test_sinks:Narrow"))
    with pytest.raises(SinkError, match="its class has no room for a policy"):
        open_sink("narrow,policy=latest")


def test_a_sink_of_no_package_is_an_error() -> None:
    with pytest.raises(PluginError, match="no 'none' among sinks"):
        plugins.load("sinks", "none")


class Narrow:
    __slots__ = ()

    def write(self, result: FrameResult) -> None:
        pass

    def close(self) -> None:
        pass


class Failing(Memory):
    def close(self) -> None:
        if self.closed:
            raise ValueError("closed twice")
        super().close()


class Leaking(Memory):
    files: list[object] = []  # noqa: RUF012 - what leaks must stay

    def write(self, result: FrameResult) -> None:
        super().write(result)
        self.files.append(Path("/dev/null").open("rb"))  # noqa: SIM115 - the fault


class Forgetful:
    def __init__(self) -> None:
        self.needs_raw = "yes"

    def write(self, result: FrameResult) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Memory(strict=False), "write: after close it must raise SinkError, it returned"),
        (Failing, "close: must be idempotent, the second call raised ValueError"),
        (Leaking, "close: threads and open files must be as before"),
        (Forgetful, "needs_raw: must be True, False or 'detections', found 'yes'"),
        (object, "write: must be a method of the sink"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_suite_finds_what_is_wrong(make: Callable[[], edge_isp.Sink], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_sink(make)
    for file in Leaking.files:
        file.close()  # type: ignore[attr-defined]
    Leaking.files.clear()


def test_the_suite_accepts_a_good_sink(memory_plugin: None) -> None:
    check_sink(Memory, spec="memory:x")
