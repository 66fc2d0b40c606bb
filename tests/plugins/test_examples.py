"""The example plug-ins, installed and run through the product and through the conformance checks."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.plugins.conftest import Run

CHECKS = {
    "camera": "check_camera(lambda: MovingBars('64x48', fps=200.0))",
    "engine": "check_engine(lambda: PlainLiteRt(find_model('rfdcsanet-s', None).path), resized=(1, 12, 16, 20))",
    "delegate": "print(check_delegate(ACME))",
    "sink": "check_sink(lambda: CsvSink(Path(f'{next(numbers)}.csv')))",
}
IMPORTS = """
import itertools
from pathlib import Path
from acme_npu import ACME
from csv_sink import CsvSink
from edge_isp import find_model
from edge_isp.testing import check_camera, check_delegate, check_engine, check_sink
from moving_bars import MovingBars
from plain_litert import PlainLiteRt
numbers = itertools.count()
"""


@pytest.mark.parametrize("kind", CHECKS)
def test_the_conformance_checks_pass(kind: str, run_python: Run) -> None:
    done = run_python("-W", "error", "-c", IMPORTS + CHECKS[kind])
    assert done.returncode == 0, done.stderr
    if kind == "delegate":
        assert done.stdout == "None\n"  # there is no such NPU here


def test_run_uses_camera_engine_and_sink(run_python: Run, tmp_path: Path) -> None:
    camera, sink = "moving-bars:64x48,fps=100,frames=3", f"csv:{tmp_path / 'table.csv'},policy=block"
    done = run_python(
        *("-m", "edge_isp", "run", "--camera", camera, "--engine", "plain-litert", "--delegate", "none"),
        *("--sink", sink, "--policy", "block", "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["sequence"] for line in done.stdout.splitlines()] == [0, 1, 2]
    assert "plain litert" in done.stderr
    rows = (tmp_path / "table.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [["moving-bars:64x48", str(n), "mean"] for n in range(3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--camera", "moving-bars:64x48,fps=fast"], "fps must be a number, found 'fast'"),
        (["--camera", "moving-bars:64x48,speed=2"], "unknown speed"),
        (["--camera", "moving-bar:64x48"], "did you mean 'moving-bars'?"),
        (["--sink", "csv"], "path is missing; expected csv:PATH"),
        (["--sink", "csv:nowhere/table.csv"], "nowhere/table.csv: cannot be made"),
        (["--engine", "plain-litter"], "did you mean 'plain-litert'?"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, run_python: Run) -> None:
    done = run_python("-m", "edge_isp", "run", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_devices_and_doctor_list_them(run_python: Run) -> None:
    found = json.loads(run_python("-m", "edge_isp", "devices", "--json").stdout)
    assert next(camera for camera in found["cameras"] if camera["name"] == "moving-bars")["problem"] is None
    assert next(engine for engine in found["engines"] if engine["name"] == "plain-litert")["problem"] is None
    shown = run_python("-m", "edge_isp", "devices")
    assert "moving-bars" in shown.stdout
    assert max(map(len, shown.stdout.splitlines()[:20])) <= 80
    assert "acme" in run_python("-m", "edge_isp", "doctor").stdout


def test_the_delegate_runs_where_its_library_is(run_python: Run, tmp_path: Path) -> None:
    """The vendor's library is the tests' NPU."""
    gcc = shutil.which("gcc")
    if not gcc:
        pytest.skip("the tests' NPU is built with gcc, which is not installed")
    source = Path(__file__).parents[1] / "engines" / "npu.c"
    library = tmp_path / "libacme_tflite_delegate.so"
    subprocess.run([gcc, "-O2", "-shared", "-fPIC", str(source), "-lm", "-o", str(library)], check=True)
    check = run_python("-c", IMPORTS + CHECKS["delegate"], LD_LIBRARY_PATH=str(tmp_path))
    assert check.returncode == 0, check.stderr
    assert "delegate='acme'" in check.stdout
    arguments = (
        "-m",
        "edge_isp",
        "run",
        "--camera",
        "moving-bars:64x48,fps=30,frames=2",
        "--delegate",
        "acme",
        "--json",
    )
    done = run_python(*arguments, LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["delegate"] for line in done.stdout.splitlines()} == {"acme"}
