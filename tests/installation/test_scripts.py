"""The scripts in one clone and one `.venv`, in any order, with `pip install .` in between; needs pip's index."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


class Shell:
    """Runs commands in a clone, as a user without any setting of ours would.

    Args:
        folder: the clone.
        cache: XDG_CACHE_HOME.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder = folder
        ours = ("PYTHONPATH", "VIRTUAL_ENV", "EDGE_ISP_CACHE", "EDGE_ISP_VM", "CACHE_DIRECTORY")
        self._environment = {name: value for name, value in os.environ.items() if name not in ours}
        self._environment["XDG_CACHE_HOME"] = str(cache)

    def __call__(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr


@pytest.fixture
def shell(clone: Path, tmp_path: Path) -> Shell:
    return Shell(clone, tmp_path / "xdg")


IMPORTS = "import edge_isp, edge_isp.kernels.encode; print('imported', edge_isp.__file__)"
INSTALLED = ".venv/edge-isp-installed"
LEFTOVER = ".venv/lib/python3*/site-packages/edge_isp"


def test_the_scripts_in_any_order(shell: Shell, clone: Path, tmp_path: Path) -> None:
    assert ".venv/bin/edge-isp" in shell("scripts/demo")
    assert len(list((clone / "out" / "demo").glob("*.png"))) == 3
    assert "passed" in shell("scripts/test -q tests/test_frame.py")
    before = (clone / INSTALLED).stat().st_mtime_ns
    shell("scripts/demo")
    assert (clone / INSTALLED).stat().st_mtime_ns == before, "pip ran again although nothing had changed"
    shell(".venv/bin/edge-isp --version")

    # What an older version left: numba's files in a folder that Python takes for the package.
    shell(".venv/bin/pip uninstall -q -y edge-isp")
    shell(f"d=$(echo {LEFTOVER.removesuffix('/edge_isp')})/edge_isp/kernels/__pycache__; mkdir -p $d && touch $d/a.nbi")
    shell("scripts/demo")
    shell(f"! ls {LEFTOVER}")

    # The user's own `pip install .`, from the root and from elsewhere.
    shell(".venv/bin/pip install -q .")
    assert str(clone / "edge_isp") in shell(f'.venv/bin/python -c "{IMPORTS}"')
    assert "site-packages" in shell(f'cd / && "{clone}/.venv/bin/python" -c "{IMPORTS}"')
    shell(".venv/bin/python -m edge_isp run --save out/demo")
    shell(".venv/bin/edge-isp run --save out/demo")
    shell("scripts/demo")
    assert str(clone / "edge_isp") in shell(f'cd / && "{clone}/.venv/bin/python" -c "{IMPORTS}"')

    # An update that brings another entry point.
    project = clone / "pyproject.toml"
    project.write_text(
        project.read_text().replace("[project.scripts]\n", '[project.scripts]\nadded = "edge_isp.cli.main:main"\n')
    )
    shell("scripts/demo")
    shell(".venv/bin/added --version")
    shell(f"! ls {LEFTOVER}")


def test_a_clone_that_was_moved_works_again(shell: Shell, clone: Path, tmp_path: Path) -> None:
    shell("scripts/demo")
    moved = clone.rename(tmp_path / "moved")
    elsewhere = Shell(moved, tmp_path / "xdg")
    elsewhere("scripts/demo")
    elsewhere(".venv/bin/edge-isp --version")
