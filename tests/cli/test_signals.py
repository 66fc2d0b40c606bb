"""The command line under fire: signals at any moment, standard streams that are closed or full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Runs the command line, and sends it a signal with the Nth import.
DURING_IMPORTS = """
import os, signal, sys
left, number = int(sys.argv[1]), int(sys.argv[2])
def hook(event, arguments):
    global left
    if event == "import":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), number)
from edge_isp.__main__ import main
sys.addaudithook(hook)
sys.argv = ["edge-isp", "run", "--frames", "1"]
main()
"""

# Runs the command line, and sends it signals when the function is called.
DURING = """
import atexit, importlib, os, signal, sys
target, signals = sys.argv[1], [int(number) for number in sys.argv[2].split(",")]
module, _, path = target.partition(":")
owner = importlib.import_module(module)
*parts, name = path.split(".")
for part in parts:
    owner = getattr(owner, part)
whole = getattr(owner, name)
def struck(*arguments, **settings):
    setattr(owner, name, whole)
    for place, number in enumerate(signals, 1):
        try:
            os.kill(os.getpid(), number)
            for _ in range(1000):
                pass
        except BaseException:
            if place < len(signals):
                continue  # the second signal comes while the first unwinds
            raise
    return whole(*arguments, **settings)
setattr(owner, name, struck)
from edge_isp.__main__ import main
atexit.register(print, "unwound", file=sys.stderr)
sys.argv = ["edge-isp", *sys.argv[3:]]
main()
"""

STATUSES = {signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (143, -signal.SIGTERM)}


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("number", list(STATUSES))
@pytest.mark.parametrize("count", [1, 300])
def test_a_signal_during_start_ends_without_a_traceback(count: int, number: signal.Signals) -> None:
    done = run(DURING_IMPORTS, str(count), str(int(number)))
    assert done.returncode in STATUSES[number], done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("number", list(STATUSES))
@pytest.mark.parametrize(
    "target",
    [
        "edge_isp.cameras.spec:load",
        "edge_isp.pipeline.pipeline:Pipeline.start",
        "edge_isp.pipeline.pipeline:Pipeline.close",
        "threading:_shutdown",
    ],
)
def test_a_signal_during_start_and_shutdown(target: str, number: signal.Signals) -> None:
    done = run(DURING, target, str(int(number)), "run", "--frames", "1")
    assert done.returncode in STATUSES[number], done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("number", list(STATUSES))
def test_a_signal_while_frames_stream_ends_in_order(number: signal.Signals, tmp_path: Path) -> None:
    """With the signal's status: who waits for all frames must see that they are not there."""
    done = run(DURING, "edge_isp.cli.run_output:Summary.add", str(int(number)), "run", "--save", str(tmp_path))
    assert done.returncode == STATUSES[number][0], done.stderr
    assert "interrupted" in done.stderr
    assert "unwound" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"]


def test_a_signal_before_the_first_frame_is_not_the_cameras_fault() -> None:
    done = run(DURING, "edge_isp.pipeline.consumer:Consumer._take", str(int(signal.SIGTERM)), "run", "--frames", "1")
    assert done.returncode == 143, done.stderr
    assert "no frame" not in done.stderr


def test_a_second_signal_ends_at_once() -> None:
    signals = f"{int(signal.SIGINT)},{int(signal.SIGINT)}"
    done = run(DURING, "edge_isp.pipeline.pipeline:Pipeline.close", signals, "run", "--frames", "1")
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "unwound" not in done.stderr


def test_signals_that_are_ignored_stay_ignored() -> None:
    ignoring = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{DURING_IMPORTS}"
    done = run(ignoring, "100", str(int(signal.SIGINT)))
    assert done.returncode == 0, done.stderr


COMMANDS = [["run", "--frames", "1"], ["run", "--frames", "1", "--json"], ["models", "list"], ["devices"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_streams_that_are_closed(command: list[str]) -> None:
    line = f"exec '{sys.executable}' -m edge_isp {' '.join(command)}"
    for closed in ("2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(["sh", "-c", f"{line} {closed}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (closed, done.stderr)
        assert ("--json" in command and ">&- 2>&-" not in closed) <= done.stdout.startswith("{")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk(command: list[str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        program = [sys.executable, "-m", "edge_isp", *command]
        messages = subprocess.run(program, stdout=subprocess.PIPE, stderr=full, text=True, check=False)
        assert messages.returncode == 0  # a message that is lost ends nothing
        assert messages.stdout
        results = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert results.returncode == 1
        assert "standard output cannot be written: No space left on device" in results.stderr
        assert "Traceback" not in results.stderr


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    program = (
        "import os, sys; from edge_isp.cli import streams; streams.prepare(); "
        "sys.exit(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY))"
    )
    line = f"exec '{sys.executable}' -c '{program}' '{tmp_path}/file' <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", line], check=False, env=os.environ)
    assert done.returncode > 2
