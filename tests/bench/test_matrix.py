"""Several combinations measured: each in a process of its own, compared over boards, drawn, and written as CSV."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from edge_isp.bench.compare import Limit, compare_matrices, matrix_failures
from edge_isp.bench.matrix import Combination, combinations, executor, measure_matrix, to_csv
from edge_isp.bench.model_file import engine_of, model_file
from edge_isp.bench.operators import measure_operators
from edge_isp.bench.plan import Plan, Subject
from edge_isp.bench.report import Matrix, Report, read_matrix, read_report, to_json
from edge_isp.cli.main import app
from edge_isp.cli.signals import Interrupted
from edge_isp.errors import BenchError, PluginError
from edge_isp.models.card import find_model

QUICK = Plan(warmup=0, warmup_s=0, frames=2, duration_s=0)


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    """LiteRT and ONNX Runtime, and a delegate that is not here."""
    executors: list[tuple[str | None, str]] = [("litert", "none"), ("onnxruntime", "none"), (None, "edgetpu")]
    return measure_matrix(combinations(["rfdcsanet-t"], [(64, 48)], executors, [1]), QUICK)


def test_each_combination_has_its_report_or_its_reason(matrix: Matrix) -> None:
    litert, onnx, absent = matrix.cells
    assert litert.report
    assert onnx.report
    assert (litert.error, onnx.error, absent.report) == (None, None, None)
    assert litert.report.model.input_shape == onnx.report.model.input_shape == [1, 12, 16, 20]
    runtimes = [cell.report.software.runtime for cell in (litert, onnx) if cell.report]
    assert [(r.name, r.lib is not None, len(r.sha256 or "")) for r in runtimes if r] == [
        ("litert", True, 64),
        ("onnxruntime", True, 64),
    ]
    # Each says what loading it took in its own process, whatever was measured before.
    for cell in (litert, onnx):
        assert cell.report
        assert 1e6 < (cell.report.resources.rss_init_bytes or 0) < 3e8
    assert absent.error
    assert "edgetpu" in absent.error
    assert (absent.delegate, absent.threads, absent.width) == ("edgetpu", 1, 64)


def test_a_process_that_dies_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_isp.bench.matrix.sys.executable", "/bin/false")
    (cell,) = measure_matrix([Combination(Subject("rfdcsanet-t"), 64, 48)], QUICK).cells
    assert cell.error == "its process ended with status 1: "


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, Interrupted])
def test_an_interrupt_keeps_what_was_measured(interrupt: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = combinations(["rfdcsanet-t"], [(64, 48)], [("litert", "none")], [1, 2, 3])
    answers: list[BaseException] = [BenchError("the first"), interrupt(2), interrupt(2)]

    def fail(job: object) -> None:
        raise answers.pop(0)

    monkeypatch.setattr("edge_isp.bench.matrix._in_process", fail)
    assert [cell.error for cell in measure_matrix(wanted, QUICK).cells] == ["the first"]
    with pytest.raises(interrupt):
        measure_matrix(wanted, QUICK)


def test_pipelines_are_measured_likewise() -> None:
    matrix = measure_matrix(
        [Combination(Subject("rfdcsanet-t", threads=1, policy="block"), 64, 48)], QUICK, kind="pipeline"
    )
    (cell,) = matrix.cells
    assert cell.report, cell.error
    assert cell.report.kind == "pipeline"
    assert cell.report.resources.rss_init_bytes


def test_the_csv_has_a_line_for_each(matrix: Matrix) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(matrix))))
    assert [line["engine"] for line in lines] == ["litert", "onnxruntime", ""]
    first, _, absent = lines
    report = matrix.cells[0].report
    assert report
    assert float(first["p50_ms"]) == pytest.approx(report.stages[0].p50 / 1e6, abs=1e-3)
    assert (first["width"], first["threads"], first["input"], first["runs"]) == ("64", "1", "1x12x16x20", "2")
    assert first["model_sha256"] == find_model("rfdcsanet-t", None).sha256
    assert absent["p50_ms"] == ""
    assert "edgetpu" in absent["error"]


def test_it_comes_back_as_it_was_written(matrix: Matrix, tmp_path: Path) -> None:
    path = tmp_path / "matrix.json"
    path.write_text(to_json(matrix))
    assert read_matrix(path) == matrix
    with pytest.raises(BenchError, match="not a report of schema version 1"):
        read_report(path)
    report = matrix.cells[0].report
    assert report
    path.write_text(to_json(report))
    with pytest.raises(BenchError, match="not a matrix of schema version 1"):
        read_matrix(path)


def test_a_report_from_before_can_still_be_read(matrix: Matrix, tmp_path: Path) -> None:
    """What was added to schema 1 has a default."""
    report = matrix.cells[0].report
    assert report
    old = json.loads(to_json(report))
    for part, name in (("resources", "rss_init_bytes"), ("software", "")):
        if name:
            del old[part][name]
    del old["operators"], old["software"]["runtime"]["lib"], old["software"]["runtime"]["sha256"]
    del old["software"]["delegate"]["version"]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old))
    assert read_report(path).resources.rss_init_bytes is None


def slower(matrix: Matrix, factor: float) -> Matrix:
    """The same on a board that takes longer."""

    def change(report: Report) -> Report:
        (stage,) = report.stages
        return msgspec.structs.replace(report, stages=[msgspec.structs.replace(stage, p50=stage.p50 * factor)])

    cells = [msgspec.structs.replace(c, report=change(c.report) if c.report else None) for c in matrix.cells]
    return msgspec.structs.replace(matrix, board="another board", cells=cells)


def test_combinations_are_compared_over_boards(matrix: Matrix) -> None:
    other = slower(matrix, 3)
    comparisons = compare_matrices([other, msgspec.structs.replace(matrix, cells=[])], matrix)
    assert [c.cell for c in comparisons] == matrix.cells
    then, none, now = comparisons[0].p50_ns
    assert then
    assert now
    assert then == pytest.approx(3 * now)
    assert none is None
    assert comparisons[2].p50_ns == (None, None, None)


def test_limits_hold_for_every_combination(matrix: Matrix) -> None:
    limits = [Limit.parse("infer.p50:+10%")]
    assert matrix_failures([matrix], matrix, limits) == []
    assert matrix_failures([matrix], slower(matrix, 1.05), limits) == []
    failures = matrix_failures([matrix], slower(matrix, 2), limits)
    assert [text.partition(":")[0] for text in failures] == [
        "rfdcsanet-t 64x48, litert none, 1 threads",
        "rfdcsanet-t 64x48, onnxruntime none, 1 threads",
    ]
    lost = msgspec.structs.replace(matrix.cells[0], report=None, error="it is gone")
    now = msgspec.structs.replace(matrix, cells=[lost])
    assert matrix_failures([matrix], now, limits) == ["rfdcsanet-t 64x48, litert none, 1 threads: it is gone"]
    assert matrix_failures([matrix], now, []) == []


def test_an_executor_is_an_engine_or_a_delegate() -> None:
    assert executor("litert") == ("litert", "none")
    assert executor("openvino,device_type=GPU") == ("onnxruntime", "openvino,device_type=GPU")
    assert executor("edgetpu") == (None, "edgetpu")
    with pytest.raises(BenchError, match="no engine or delegate 'abacus'; there are the engines compiled-model"):
        executor("abacus")


def test_the_engine_has_the_file_that_it_takes(tmp_path: Path) -> None:
    def made(subject: Subject, size: tuple[int, int] = (640, 480)) -> str:
        return Path(model_file(subject, *size, tmp_path)).name

    assert made(Subject("rfdcsanet-t")) == "rfdcsanet-t"
    assert made(Subject("rfdcsanet-t", delegate="/opt/libnpu.so")) == "rfdcsanet-t"
    assert made(Subject("rfdcsanet-t", "onnxruntime")) == "rfdcsanet-t-generic.onnx"
    assert made(Subject("rfdcsanet-t", delegate="openvino")) == "rfdcsanet-t-generic.onnx"
    path = tmp_path / "rfdcsanet-t-generic.onnx"
    written = path.stat().st_mtime_ns
    assert made(Subject(str(path), "onnxruntime")) == path.name
    assert made(Subject("rfdcsanet-t", "onnxruntime")) == path.name
    assert path.stat().st_mtime_ns == written  # made once
    assert (
        made(Subject("rfdcsanet-t", delegate="litert-intel,graph_backend=CPU")) == "rfdcsanet-t-generic-640x480.tflite"
    )
    assert made(Subject("raw-detector", delegate="litert-gpu")) == "raw-detector-generic-416x416.tflite"
    with pytest.raises(PluginError, match="no delegate 'abacus'"):
        engine_of(Subject(delegate="abacus"))


def test_operators_are_those_of_the_graph(tmp_path: Path) -> None:
    path = Path(model_file(Subject("rfdcsanet-t", "onnxruntime"), 64, 48, tmp_path))
    times = measure_operators(path, (1, 12, 16, 20), 1)
    assert times == sorted(times, key=lambda each: -each.ns)
    nodes = {each.operator: each.nodes for each in times}
    assert nodes["QLinearConv"] == 8
    assert all(each.ns > 0 for each in times if each.operator == "QLinearConv")
    assert {each.executor for each in times} == {"CPUExecutionProvider"}
    with pytest.raises(BenchError, match="LiteRT has no profiler"):
        measure_operators(find_model("rfdcsanet-t", None).path, (1, 12, 16, 20), 1)


def bench(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["bench", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_matrix_command(tmp_path: Path) -> None:
    table, plot = tmp_path / "matrix.csv", tmp_path / "matrix.png"
    quick = ["--model", "rfdcsanet-t", "--size", "64x48", "--threads", 1, "--duration", 0]
    code, output, messages = bench("matrix", *quick, "--engine", "litert", "--engine", "edgetpu", "--json")
    assert code == 0
    old = tmp_path / "old.json"
    old.write_text(output)
    assert [cell.engine for cell in read_matrix(old).cells] == ["litert", None]
    assert "rfdcsanet-t 64x48 on edgetpu, 1 threads: delegate 'edgetpu'" in messages
    code, output, messages = bench(
        *("matrix", *quick, "--engine", "litert", "--csv", table, "--plot", plot),
        *("--compare", old, "--compare", old, "--fail-if", "infer.p50:+100000%"),
    )
    assert code == 0
    assert "rfdcsanet-t" in output
    assert "median inference in ms" in messages
    assert table.read_text().count("\n") == 2
    assert plot.stat().st_size > 10_000
    old.write_text(to_json(slower(read_matrix(old), 1e-3)))
    limit = ("--compare", old, "--fail-if", "infer.p50:+100%")
    code, _, messages = bench("matrix", *quick, "--engine", "litert", *limit)
    assert code == 2
    assert "FAILED: rfdcsanet-t 64x48, litert none" in messages


def test_options_that_are_repeated_make_a_matrix(tmp_path: Path) -> None:
    quick: list[Any] = ["--model", "rfdcsanet-t", "--threads", 1, "--warmup", 0, "--frames", 2]
    code, output, _ = bench("model", *quick, "--size", "64x48", "--size", "32x32", "--delegate", "none", "--json")
    assert code == 0
    path = tmp_path / "matrix.json"
    path.write_text(output)
    assert [(cell.width, cell.delegate, cell.error) for cell in read_matrix(path).cells] == [
        (64, "none", None),
        (32, "none", None),
    ]
    code, output, _ = bench("model", *quick, "--size", "64x48", "--engine", "onnxruntime", "--operators")
    assert code == 0
    assert "QLinearConv" in output
    assert "onnxruntime_pybind11_state" in output.replace("\n", "")  # the library, with its SHA-256
    for command, options in (("model", ["--operators"]), ("pipeline", ["--overhead"])):
        with pytest.raises(BenchError, match="for one size, engine and delegate"):
            bench(command, *quick, "--size", "64x48", "--size", "32x32", *options)
