"""Every `edge-isp` command in the documentation is understood, and runs where no hardware and no server is needed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_isp.cli.main import command_line
from tests.cli.in_process import run
from tests.docs.pages import ROOT, blocks, shell_commands
from tests.docs.test_snippets import fill

COMMANDS = [(page, arguments) for page, arguments in shell_commands("edge-isp") if arguments]
PAGES = list(dict.fromkeys(page for page, _ in COMMANDS))

# What stands for a camera, a broker or an NPU on the machine that runs the tests.
CAMERA = re.compile(r"^(picamera2:|v4l2:|zenoh:|SPEC|[A-D]$)")
STAND_IN = "synthetic:photo.jpg,fps=30,width=640,height=480,frames=3"
# They go on until they are stopped, take hours, need a server or a device, or change the system.
NOT_RUN = re.compile(
    r"^(serve|ros|train|evaluate|install-service|bench|calibrate (black-level|noise|shading|colour)|warmup|compile)\b"
    r"|^models fetch\b"
    r"|--sink (mqtt|rtsp|virtual|zenoh|rosbag|udp|rtmp)|--delegate (?!auto|none)|--engine-python|--require-full"
    r"|zenoh:|runs/|picture\.dng|scene\.dng|--trigger|\.onnx\b|config check|--init|ride\.mcap|moving-bars"
)
FILES = (
    "zones.toml",
    "FILE.toml",
    "picture.dng",
    "scene.dng",
    "ride.mcap",
    "before.json",
    "yolox_nano.onnx",
)
FOLDERS = ("DIR", "train2017", "more", "dngs", "labels", "val2017", "kodak", "runs/detector", "runs/generic", "photos")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the commands run, without a configuration of the user's."""
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_are_understood(page: str, folder: Path) -> None:
    for name in FILES:
        (folder / name).touch()
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    wrong = []
    for at, arguments in COMMANDS:
        if at == page and (fault := _fault(arguments)):
            wrong.append(f"edge-isp {' '.join(arguments)}: {fault}")
    assert wrong == []


def _fault(arguments: list[str]) -> str:
    """What is wrong with the arguments, "" if nothing is: they are parsed as they would be, and nothing is run."""
    command, names = command_line(), ["edge-isp"]
    rest = ["FILE.toml" if argument == "/etc/edge-isp.toml" else argument for argument in arguments]
    while subcommands := getattr(command, "commands", None):
        if not rest or rest[0] not in subcommands:
            return f"no such command below {' '.join(names)}"
        command = subcommands[rest[0]]
        names.append(rest.pop(0))
    while True:
        try:
            command.make_context(" ".join(names), list(rest))
        except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it is, the page is wrong)
            message = getattr(error, "message", None) or repr(error)
            readers_own = re.match(r"(file|dir|path) '([^/'].*)' does not exist", message)
            if not readers_own:
                return message
            path = Path(readers_own[2])
            path.parent.mkdir(parents=True, exist_ok=True)
            if readers_own[1] == "dir":
                path.mkdir()
            else:
                path.touch()
        else:
            return ""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page: str, folder: Path) -> None:
    for arguments in _runnable(page):
        done = run(*arguments)
        assert done.returncode == 0, f"edge-isp {' '.join(arguments)}\n{done.stderr}"


def _runnable(page: str) -> Iterator[list[str]]:
    for at, arguments in COMMANDS:
        text = " ".join(arguments)
        if at != page or NOT_RUN.search(text):
            continue
        arguments = [STAND_IN if CAMERA.match(argument) else argument for argument in arguments]
        if arguments[0] in ("run", "record") and "--frames" not in arguments:
            arguments = [*arguments, "--frames", "2"]
        yield arguments


def test_most_commands_are_run() -> None:
    """What is left out is what cannot run here, not what is inconvenient."""
    assert len([arguments for page in PAGES for arguments in _runnable(page)]) > 30


def test_extras_that_are_named_exist() -> None:
    extras: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "".join(block.text for block in [*blocks(""), *blocks("sh")])
    named = {extra for found in re.findall(r"(?:edge-isp|\.)\[([\w,-]+)\]", text) for extra in found.split(",")}
    assert named
    assert named <= set(extras)
