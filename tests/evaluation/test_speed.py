"""`edge-isp evaluate speed`: every form of a network is built, run and timed."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: the extra [train] brings it")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: the extra [onnx] brings it")

from typer.testing import CliRunner

from edge_isp.cli.main import app
from edge_isp.evaluation.isp.speed import BRANCHES, INT8, MERGED, measure_speed


def test_every_form_is_timed() -> None:
    rounds = []
    timings = measure_speed(
        ["rfdcsanet-s", "plain-24x4"], width=32, height=24, threads=1, rounds=3, report=lambda: rounds.append(1)
    )
    assert len(rounds) == 3
    assert [(t.network, t.form) for t in timings] == [
        (name, form) for name in ("rfdcsanet-s", "plain-24x4") for form in (INT8, MERGED, BRANCHES)
    ]
    assert all(0 < t.min_ms <= t.median_ms for t in timings)
    assert timings[0].gmac == pytest.approx(252_160e-9 * 6 * 8, rel=0.02)  # weights without biases


def test_the_command() -> None:
    run = CliRunner()
    result = run.invoke(app, ["evaluate", "speed", "--network", "plain-24x4", "--size", "32x24", "--rounds", "1"])
    assert result.exit_code == 0, result.output
    assert "plain" in result.output
    assert INT8 in result.output
    result = run.invoke(app, ["evaluate", "speed", "--size", "wide"])
    assert result.exit_code == 2
    assert "WIDTHxHEIGHT" in result.output
    assert "'wide'" in result.output
