"""`edge-isp bench kernels` and `edge-isp warmup`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from edge_isp.bench import kernels as bench
from edge_isp.cli.main import app


def test_bench_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIZES", ((848, 848), (856, 848)))
    result = CliRunner().invoke(app, ["bench", "kernels", "--json", "--duration", "0"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["schema_version"] == 1
    assert {(entry["width"], entry["height"]) for entry in report["results"]} == {(848, 848), (856, 848)}
    assert all(0 < entry["min_ms"] <= entry["median_ms"] for entry in report["results"])
    judged = {entry["kernel"] for entry in report["results"] if entry["target"]}
    assert {"encode RAW10 to int8", "decompress PiSP", "encode RAW10 to a mosaic of 416"} <= judged
    encoded = {entry["kernel"] for entry in report["results"]}
    for lens in ("", ", lens shading"):
        for rest in (f"{lens}, defects", f", 4x4 cells{lens}", f", 4x4 cells{lens}, defects"):
            assert f"encode RAW10 with noise planes{rest}" in encoded
    assert report["two_threads_speed_up"] > 0


def test_bench_kernels_as_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIZES", ((848, 848), (856, 848)))
    result = CliRunner().invoke(app, ["bench", "kernels", "--duration", "0"])
    assert result.exit_code == 0, result.output
    assert "two threads: encode" in result.stdout


def test_warmup() -> None:
    result = CliRunner().invoke(app, ["warmup"])
    assert result.exit_code == 0, result.output
    assert "functions compiled" in result.stdout
