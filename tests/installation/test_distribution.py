"""The source distribution and the wheel that is built from it hold everything that runs."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import edge_isp

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_wheel_built_from_the_source_distribution_is_complete(clone: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    python = environment / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "setuptools>=77"], check=True)
    program = f"from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}))"
    subprocess.run([python, "-c", program], cwd=clone, check=True, capture_output=True)
    (source,) = tmp_path.glob("edge_isp-*.tar.gz")
    with tarfile.open(source) as archive:
        in_source = {name.partition("/")[2] for name in archive.getnames()}
    subprocess.run([python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, source], cwd="/", check=True)
    (wheel,) = tmp_path.glob("edge_isp-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if name.startswith("edge_isp/")}

    package = clone / "edge_isp"
    wanted = {"edge_isp/" + str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    for linked in ("kernels", "calibration"):  # `rglob` does not follow links
        folder = clone / linked
        wanted |= {
            f"edge_isp/{linked}/" + str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
        }
    wanted = {name for name in wanted if "__pycache__" not in name}
    assert {
        "edge_isp/kernels/rows.py",
        "edge_isp/calibration/profiles/imx219.toml",
        "edge_isp/demo/spices.raw",
    } <= wanted
    assert any(name.startswith("edge_isp/models/zoo/") and name.endswith(".tflite") for name in wanted)
    assert wanted - in_wheel == set()
    assert wanted - in_source == set()

    with zipfile.ZipFile(wheel) as archive:
        parts = {name.split("/")[0] for name in archive.namelist()}
    version = edge_isp.__version__
    assert parts == {"edge_isp", f"edge_isp-{version}.dist-info"}
    assert not [name for name in in_source if name.startswith(("tests", "docs", "examples", ".github", "weights"))]
    assert "tests" not in {part for name in in_source | in_wheel for part in name.split("/")}
    assert max(wheel.stat().st_size, source.stat().st_size) < 8_000_000
