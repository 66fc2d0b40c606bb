"""A stranger's first steps: the commands of the README's "Try it", in a fresh clone and home, without a compiler."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.installation.conftest import clone  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow

COMPILERS = re.compile(r"^(.*-)?(cc|c\+\+|gcc|g\+\+|cpp|clang|clang\+\+|c89|c99|tcc)(-[\d.]+)?$")
README = (ROOT / "README.md").read_text()
COMMANDS = [line.split("#")[0].split() for line in re.findall(r"^    (scripts/demo.*)$", README, re.MULTILINE)]


@pytest.fixture(params=["python3.11", "python3.12", "python3.13"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The variables of somebody who has just logged in: the programs of the system, but no compiler."""
    python = shutil.which(request.param)
    if python is None or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"{request.param} is not installed")
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for program in Path(folder).iterdir():
            if not COMPILERS.match(program.name) and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    return {**kept, "HOME": str(home), "PATH": str(programs), "PYTHON": python, "LANG": "C.UTF-8"}


def test_the_readme_names_four_first_steps() -> None:
    assert COMMANDS == [
        ["scripts/demo"],
        ["scripts/demo", "--model", "raw-detector"],
        ["scripts/demo", "serve"],
        ["scripts/demo", "bench"],
    ]


def test_each_first_step_works(clone: Path, environment: dict[str, str]) -> None:  # noqa: F811
    steps: dict[str, Callable[[Path, dict[str, str], list[str]], None]] = {"serve": _serves, "bench": _measures}
    for command in COMMANDS:
        steps.get(command[-1], _makes_pictures)(clone, environment, command)


def _run(folder: Path, environment: dict[str, str], command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _makes_pictures(folder: Path, environment: dict[str, str], command: list[str]) -> None:
    pictures = folder / "out" / "demo"
    before = len(list(pictures.glob("*.png")))
    _run(folder, environment, command)
    assert len(list(pictures.glob("*.png"))) == before + 3


def _measures(folder: Path, environment: dict[str, str], command: list[str]) -> None:
    assert re.search(r"\b(VALID|INVALID)\b", _run(folder, environment, command))


def _serves(folder: Path, environment: dict[str, str], command: list[str]) -> None:
    with subprocess.Popen(
        [*command, "--port", "0"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdout
        printed = []
        try:
            for line in server.stdout:
                printed.append(line)
                if found := re.search(r"http://127\.0\.0\.1:\d+/\S*", line):
                    with urllib.request.urlopen(found[0], timeout=60) as page:
                        assert b"<html" in page.read()
                    return
            pytest.fail("".join(printed))
        finally:
            os.killpg(server.pid, signal.SIGTERM)
