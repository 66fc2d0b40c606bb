"""The example packages, installed as a user installs them, in a folder of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("camera", "engine", "delegate", "sink")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that holds the four example packages."""
    sources, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("installed")
    for kind in KINDS:  # building leaves files beside the source
        shutil.copytree(ROOT / "examples" / "plugins" / kind, sources / kind)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--target", str(target), *(str(sources / kind) for kind in KINDS)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.fail(f"the example packages cannot be installed: {done.stderr}")
    return target


@pytest.fixture
def run_python(installed: Path, tmp_path: Path) -> Run:
    """Runs Python with the example packages, in an empty folder."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join((str(installed), str(ROOT)))
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path} | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
