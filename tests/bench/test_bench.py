"""The benchmark: figures by their definitions, the report and its schema, comparison, and the commands."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from edge_isp.bench.assemble import host_of
from edge_isp.bench.compare import Limit, compare_reports
from edge_isp.bench.figures import Samples, distribution, intervals, rate
from edge_isp.bench.frames import MemoryCamera
from edge_isp.bench.model import measure_model
from edge_isp.bench.overhead import measure_overhead
from edge_isp.bench.pipeline import measure_pipeline
from edge_isp.bench.plan import Plan, Subject
from edge_isp.bench.report import Report, json_schema, read_report, to_json
from edge_isp.bench.sampler import Meters, Sampler
from edge_isp.board import Board
from edge_isp.cli.main import app
from edge_isp.engines.base import EngineReport, Partition
from edge_isp.errors import BenchError, EdgeIspError, EngineError
from edge_isp.frame import FrameStatus
from tests.support.scripted import ScriptedEngine, engine

__all__ = ["engine"]

SCHEMA = Path(__file__).parents[2] / "docs" / "bench-schema-1.json"
KEYS = Path(__file__).parent / "schema-1-keys.txt"
SHORT = Plan(warmup=3, warmup_s=0.0, frames=20, duration_s=0.0)


def test_a_perfect_30_hz_source_has_30_00_frames_a_second() -> None:
    times = [round(i * 1e9 / 30) for i in range(301)]
    assert f"{rate(len(times), times[0], times[-1]):.2f}" == "30.00"
    assert f"{rate(2, times[0], times[1]):.2f}" == "30.00"
    assert rate(1, 0, 0) is None


def test_percentiles_are_linear_between_values() -> None:
    found = distribution("x", [10, 20, 30, 40], first_ns=99)
    assert (found.n, found.mean, found.p50, found.min, found.max, found.first) == (4, 25, 25, 10, 40, 99)
    assert math.isclose(found.p90, 37)


def test_jitter_has_classes() -> None:
    found = intervals(np.array([100] * 10 + [89, 91, 109, 111, 189, 191]))
    assert found is not None
    assert (found.p50, found.early, found.late, found.very_late) == (100, 1, 2, 1)
    assert intervals([]) is None


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_samples_are_of_all_values_and_no_others(values: list[int]) -> None:
    samples = Samples(["a", "b"], capacity=20)
    for value in values:
        samples.add({"a": value})
    assert samples.n == len(values)
    kept = samples.column("a").tolist()
    assert len(kept) == min(len(values), 20)
    assert not set(kept) - set(values)
    if len(values) <= 20:
        assert kept == values
    assert samples.column("b").size == 0


def test_a_long_run_is_sampled_evenly() -> None:
    samples = Samples(["a"], capacity=1000)
    for value in range(50_000):
        samples.add({"a": value})
    assert abs(samples.column("a").mean() - 25_000) < 1500


def board(root: Path) -> Path:
    """The files of a machine with a power meter."""
    files = {
        "proc/stat": "cpu  100 0 50 1000 5 1 2 0 0 0\n",
        "sys/class/hwmon/hwmon0/name": "rp1_adc\n",
        "sys/class/hwmon/hwmon1/name": "ina219\n",
        "sys/class/hwmon/hwmon1/power1_input": "4500000\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_meters_of_a_machine(tmp_path: Path) -> None:
    meters = Meters(board(tmp_path))
    assert meters.power_w() == ("ina219", 4.5)
    assert meters.busy_s() == 153 / os.sysconf("SC_CLK_TCK")


def test_nothing_is_known_of_an_empty_machine(tmp_path: Path) -> None:
    meters = Meters(tmp_path)
    assert {meters.power_w(), meters.rss_bytes(), meters.busy_s(), meters.rapl_uj()} == {None}
    host = host_of(Board(tmp_path))
    assert (host.board, host.soc, host.governor, host.freq_khz, host.mem_total_bytes, host.os) == (None,) * 6
    with Sampler(tmp_path) as sampler:
        pass
    assert sampler.thermal().samples == 0
    assert sampler.thermal().throttled is None
    assert sampler.energy(10).source == "none"


def test_the_host_of_a_report(tmp_path: Path) -> None:
    for number, (low, high) in enumerate(((600_000, 1_800_000), (408_000, 2_400_000))):
        folder = tmp_path / f"sys/devices/system/cpu/cpufreq/policy{number}"
        folder.mkdir(parents=True)
        (folder / "scaling_min_freq").write_text(f"{low}\n")
        (folder / "scaling_max_freq").write_text(f"{high}\n")
    assert host_of(Board(tmp_path)).freq_khz == (408_000, 2_400_000)


def test_energy_is_power_over_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0, 0, 2_000_000_000, 4_000_000_000, 4_000_000_000])
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(times))
    root = board(tmp_path)
    with Sampler(root, period_s=3600) as sampler:
        (root / "sys/class/hwmon/hwmon1/power1_input").write_text("5500000\n")
        sampler.sample()
    found = sampler.energy(5)
    assert found.source == "ina219"
    assert found.joules is not None
    assert math.isclose(found.joules, 2 * 5.0 + 2 * 5.5)
    assert found.j_per_frame == found.joules / 5


def test_the_counter_of_a_package_may_begin_anew(tmp_path: Path) -> None:
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.parent.mkdir(parents=True)
    counter.write_text("900\n")
    (counter.parent / "max_energy_range_uj").write_text("1000\n")
    with Sampler(tmp_path, period_s=3600) as sampler:
        counter.write_text("200\n")
    found = sampler.energy(1)
    assert (found.source, found.joules) == ("rapl", 300e-6)


def test_memory_grows_after_the_first_minute_only(tmp_path: Path) -> None:
    with Sampler(tmp_path, period_s=3600) as sampler:
        pass
    begun = sampler._begun_ns
    sampler.rss_bytes = [(begun + s * 10**9, rss) for s, rss in ((0, 10), (59, 70), (60, 50), (90, 53), (120, 51))]
    assert sampler.rss_growth_bytes() == 3
    sampler.rss_bytes = sampler.rss_bytes[:3]
    assert sampler.rss_growth_bytes() is None


def test_frames_in_memory_come_on_time_and_the_late_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0

    class Closed:
        def wait(self, seconds: float) -> bool:
            nonlocal now
            now += round(seconds * 1e9)
            return False

        def is_set(self) -> bool:
            return False

    monkeypatch.setattr("edge_isp.bench.frames.time.monotonic_ns", lambda: now)
    camera = MemoryCamera(16, 16, fps=10)
    camera._closed = Closed()  # type: ignore[assignment]
    frames = [camera.read() for _ in range(3)]
    now += 350_000_000
    frames += [camera.read(), camera.read()]
    assert [f.sequence for f in frames if f] == [0, 1, 2, 5, 6]
    assert [f.timestamp_ns for f in frames if f] == [0, 10**8, 2 * 10**8, 5 * 10**8, 6 * 10**8]
    assert [FrameStatus.GAP in f.status for f in frames if f] == [False, False, False, True, False]


@pytest.fixture
def report(engine: type[ScriptedEngine]) -> Report:
    """Of a short run on the scripted engine."""
    subject = Subject(engine="scripted", threads=1)
    beside = measure_overhead(subject, width=64, height=48, rounds=2, seconds=0.01)
    return measure_pipeline(subject, SHORT, lambda: MemoryCamera(64, 48, fps=None), requested_fps=None, overhead=beside)


def test_a_report_says_what_was_measured(report: Report) -> None:
    assert [s.name for s in report.stages] == ["read", "encode", "infer", "decode"]
    assert [w.name for w in report.waits] == ["encode", "infer", "decode", "deliver"]
    assert all(s.n == 20 for s in report.stages)
    assert all(s.first is not None for s in report.stages)
    assert report.latency is not None
    assert report.latency.e2e.n == 20
    assert report.camera is not None
    assert (report.camera.backend, report.camera.mode, report.camera.bayer) == ("MemoryCamera", "64x48", "RGGB")
    assert report.model.input_shape == [1, 12, 16, 20]
    assert report.drops.total == report.drops.unexplained == 0
    assert report.rates.delivered_fps is not None
    assert report.rates.delivered_fps > 0
    assert report.overhead is not None
    assert report.overhead.rounds == 2
    assert not report.valid
    assert "20 frames are too few for p99: at least 1000" in report.invalid_reasons
    assert report.software.runtime is not None
    assert report.software.runtime.name == "scripted"


def test_losses_of_the_run_are_explained_by_the_sensors_numbers(engine: type[ScriptedEngine]) -> None:
    def on_run(number: int) -> None:
        if number % 5 == 4:
            raise EngineError("scripted")

    engine.on_run = on_run

    class Lossy(MemoryCamera):
        def read(self, timeout_s: float | None = None) -> Any:
            frame = super().read(timeout_s)
            assert frame is not None
            self._next += 2 * (frame.sequence % 10 == 7)
            return frame

    def open_camera() -> Lossy:
        camera = Lossy(64, 48, fps=None)
        camera.live = True  # so that an engine error costs a frame only
        return camera

    found = measure_pipeline(Subject(engine="scripted", policy="block"), SHORT, open_camera, requested_fps=None)
    assert found.drops.unexplained == 0
    assert set(found.drops.by_cause) == {"sensor gap", "engine error"}
    assert found.drops.total == sum(found.drops.by_cause.values())
    assert found.errors == found.drops.by_cause["engine error"]


def test_reports_hold_to_the_published_schema_and_come_back(report: Report, tmp_path: Path) -> None:
    text = to_json(report)
    jsonschema.validate(json.loads(text), json_schema(), jsonschema.Draft202012Validator)
    keys = list(json.loads(text))
    assert keys == sorted(keys)
    path = tmp_path / "report.json"
    path.write_text(text)
    assert to_json(read_report(path)) == text
    for broken, message in (
        (text.replace('"schema_version": 1', '"schema_version": 2'), "not a report of schema version 1"),
        (text.replace('"kind": "pipeline"', '"kind": "pipeline", "more": 1'), "unknown field `more`"),
        (text[:-20], "truncated"),
    ):
        path.write_text(broken)
        with pytest.raises(BenchError, match=message):
            read_report(path)
    with pytest.raises(BenchError, match="cannot be read: No such file"):
        read_report(tmp_path / "none.json")


def test_what_is_not_a_number_is_null(report: Report) -> None:
    odd = msgspec.structs.replace(report, quality={"psnr": float("nan")})
    assert json.loads(to_json(odd))["quality"] == {"psnr": None}


def test_the_published_schema_is_that_of_the_code() -> None:
    assert json.loads(SCHEMA.read_text()) == json_schema(), f"write it anew: edge-isp bench schema > {SCHEMA}"
    jsonschema.Draft202012Validator.check_schema(json_schema())


def keys_of(schema: dict[str, Any], part: dict[str, Any], path: str = "") -> set[str]:
    """Where the keys of a document stand ("latency.e2e.p95", "stages[].name")."""
    found: set[str] = set()
    for branch in [part, *part.get("anyOf", [])]:
        if "$ref" in branch:
            found |= keys_of(schema, schema["$defs"][branch["$ref"].rpartition("/")[2]], path)
        if isinstance(branch.get("items"), dict):
            found |= keys_of(schema, branch["items"], f"{path}[]")
        for name, value in branch.get("properties", {}).items():
            place = f"{path}.{name}".lstrip(".")
            found |= {place} | keys_of(schema, value, place)
    return found


def test_no_key_of_schema_1_is_renamed() -> None:
    """What reads reports of version 1 goes on reading them: keys may be added."""
    recorded = set(KEYS.read_text().split())
    found = keys_of(json_schema(), json_schema())
    assert recorded <= found
    assert {"peers[].fps", "waits[].p95", "latency.e2e.p99", "thermal.throttled.raw"} <= recorded


def slower(report: Report, factor: float) -> Report:
    """The same run with another latency."""
    assert report.latency is not None
    e2e = report.latency.e2e
    times = {name: getattr(e2e, name) * factor for name in ("mean", "min", "p50", "p90", "p95", "p99", "p999", "max")}
    latency = msgspec.structs.replace(report.latency, e2e=msgspec.structs.replace(e2e, **times))
    fps = report.rates.delivered_fps
    assert fps is not None
    rates = msgspec.structs.replace(report.rates, delivered_fps=fps / factor)
    return msgspec.structs.replace(report, latency=latency, rates=rates)


@pytest.mark.parametrize(
    ("limit", "factor", "fails"),
    [
        ("p95:+10%", 1.09, False),
        ("p95:+10%", 1.11, True),
        ("e2e.p50:+0%", 1.0, False),
        ("p99:+10%", 0.5, False),
        ("delivered_fps:-5%", 1.04, False),
        ("delivered_fps:-5%", 1.06, True),
        ("infer.p95:+1%", 3.0, False),
    ],
)
def test_a_limit_fails_what_got_worse(report: Report, limit: str, factor: float, fails: bool) -> None:
    found = compare_reports(report, slower(report, factor), [Limit.parse(limit)])
    assert bool(found.failures) == fails
    assert {"e2e.p95", "infer.p50", "delivered_fps"} <= {change.figure for change in found.changes}


def test_wrong_limits_and_reports_are_errors(report: Report) -> None:
    for text, message in (
        ("p95", "limit must be FIGURE:"),
        ("p95:10%", "limit must be FIGURE:"),
        ("p42:+10%", "no figure 'p42'; there are mean"),
        ("infer.fps:+10%", "no figure 'infer.fps'"),
    ):
        with pytest.raises(BenchError, match=message):
            Limit.parse(text)
    with pytest.raises(BenchError, match="there is no 'meter.p95' in the earlier report"):
        compare_reports(report, report, [Limit.parse("meter.p95:+1%")])
    with pytest.raises(BenchError, match="of kind 'soak' with one of kind 'pipeline'"):
        compare_reports(report, msgspec.structs.replace(report, kind="soak"), [])
    other = msgspec.structs.replace(report.host, cpu_count=64)
    found = compare_reports(report, msgspec.structs.replace(report, host=other), [])
    assert f"CPUs: {report.host.cpu_count} then, 64 now" in found.differs


def test_the_model_alone(engine: type[ScriptedEngine]) -> None:
    found = measure_model(Subject(engine="scripted"), SHORT, width=64, height=48)
    (infer,) = found.stages
    assert (infer.name, infer.n) == ("infer", 20)
    assert engine.runs == 20 + 3  # and the first one, which the scripted engine takes for its warm-up
    assert found.latency is None
    assert found.rates.processed_fps is not None
    jsonschema.validate(json.loads(to_json(found)), json_schema())


def test_partial_delegation_makes_a_run_invalid(engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    partitions = (Partition("npu", (("CONV_2D", 9),)), Partition("XNNPACK", (("MEAN", 3),)))
    report = EngineReport("scripted", "npu", 1, partitions)
    monkeypatch.setattr("edge_isp.pipeline.runner.Runner.report", report)
    found = measure_model(Subject(engine="scripted"), SHORT, width=64, height=48)
    assert (found.model.nodes_total, found.model.nodes_delegated) == (12, 9)
    assert "partial delegation: npu runs 9 of 12 nodes" in found.invalid_reasons


def test_a_clock_that_is_not_fixed_is_named_with_what_fixes_it(
    engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_isp.board.Board.governor", lambda self: "ondemand")
    found = measure_model(Subject(engine="scripted"), SHORT, width=64, height=48)
    (reason,) = (text for text in found.invalid_reasons if "governor" in text)
    assert reason.startswith("the CPU's clock is not fixed: governor ondemand; to fix it: echo performance | sudo tee ")
    assert reason.endswith("/scaling_governor")


def test_memory_of_the_engines_process_counts(tmp_path: Path) -> None:
    """The resident memory of this process and of those that it started, in pages."""
    files = {"self/statm": "9 3 1", "self/task/7/children": "8 ", "self/task/9/children": "10 11", "8/statm": "9 20 1"}
    for name, text in {**files, "10/statm": "9 100 1"}.items():
        path = tmp_path / "proc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    page = os.sysconf("SC_PAGE_SIZE")
    assert Meters(tmp_path).rss_bytes() == 3 * page
    assert Meters(tmp_path).rss_with_children_bytes() == 123 * page
    assert Meters(tmp_path / "none").rss_with_children_bytes() is None


def test_a_camera_that_ends_too_soon(engine: type[ScriptedEngine]) -> None:
    class Short(MemoryCamera):
        def read(self, timeout_s: float | None = None) -> Any:
            return super().read(timeout_s) if self._next < 4 else None

    with pytest.raises(BenchError, match="the camera ended after 4 frames, of which 3 only warm up"):
        measure_pipeline(Subject(engine="scripted"), SHORT, lambda: Short(64, 48, fps=None), requested_fps=None)


def command(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["bench", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def quick(engine: type[ScriptedEngine], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Arguments of a run that takes a moment."""
    monkeypatch.setattr("edge_isp.bench.plan.Plan.__init__.__defaults__", (3, 0.0, 20, 0.0, None, 0))
    return ["--engine", "scripted", "--size", "64x48", "--warmup", 3, "--frames", 20]


def test_the_commands(quick: list[object], tmp_path: Path) -> None:
    code, output, _ = command("pipeline", *quick, "--json", "--cpu", "0")
    assert code == 0
    old = tmp_path / "old.json"
    old.write_text(output)
    assert read_report(old).settings.pinned == [0]
    plot = tmp_path / "plot.png"
    code, output, messages = command(
        "pipeline", *quick, "--plot", plot, "--compare", old, "--fail-if", "p99:+100000000%"
    )
    assert code == 0
    assert "exposure to result" in output
    assert "INVALID: 20 frames are too few" in output
    assert "since the earlier report" in messages
    assert plot.stat().st_size > 10_000
    code, _, messages = command("pipeline", *quick, "--compare", old, "--fail-if", "p50:-99.9999%")
    assert code == 0
    code, _, messages = command("pipeline", *quick, "--compare", old, "--fail-if", "delivered_fps:+0%")
    assert code in (0, 2)
    assert (code == 2) == ("FAILED: delivered_fps" in messages)
    code, output, _ = command("model", *quick)
    assert code == 0
    assert "infer" in output


def test_wrong_arguments_are_errors(tmp_path: Path) -> None:
    for arguments, message in (
        (["model", "--cpu", "4095"], "cannot run on CPUs"),
        (["pipeline", "--fail-if", "p95:+10%"], "--fail-if needs --compare"),
        (["pipeline", "--compare", tmp_path / "none.json"], "cannot be read"),
        (["pipeline", "--camera", "x.raw", "--fps", "3"], "--fps is for frames in memory"),
    ):
        with pytest.raises(EdgeIspError, match=message):
            command(*arguments)


def test_the_schema_command() -> None:
    code, output, _ = command("schema")
    assert code == 0
    assert json.loads(output) == json_schema()
