"""What `scripts/test-board` says where something is missing, and how it judges; without any emulated machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.vm import board, loopback, test_board, tools


def test_missing_tools_are_named_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, tools.__file__], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "sudo apt install --no-install-recommends" in line
    assert {"qemu-utils", "qemu-system-arm", "mmdebstrap", "gcc-aarch64-linux-gnu"} <= set(line.split())


@pytest.mark.parametrize("asked_for", [True, False])
def test_asked_for_by_name_it_fails_where_a_tool_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked_for: bool
) -> None:
    monkeypatch.delenv("EDGE_ISP_VM", raising=False)
    if asked_for:
        monkeypatch.setenv("EDGE_ISP_VM", "1")
    for module in (board, loopback):
        monkeypatch.setattr(module, "missing_packages", lambda: ["qemu-utils"])
    outcomes: Any = (pytest.fail.Exception, pytest.skip.Exception)  # both, since a skip would skip this test
    with pytest.raises(outcomes, match="apt install .*qemu-utils" if asked_for else "scripts/test-board") as caught:
        test_board.seen_on(board.BOOKWORM, tmp_path, "on_the_board.py", full=False, timeout_s=1)
    assert caught.type is outcomes[not asked_for]
    with pytest.raises(board.Missing, match="apt install .*qemu-utils"):
        loopback.LoopbackMachine()


@pytest.mark.parametrize(
    ("descriptors", "resident_kb", "leaks"),
    [
        ([12, 12], [96_000, 96_200], False),  # warmed up before: 90,000 at first do not count
        ([12, 12], [96_000, 95_000], False),
        ([12, 13], [96_000, 96_000], True),
        ([12, 12], [96_000, 97_000], True),
    ],
)
def test_a_leak_is_what_grows_between_two_late_plateaus(
    descriptors: list[int], resident_kb: list[int], leaks: bool
) -> None:
    report = {"leaks": {"descriptors": descriptors, "resident_kb": resident_kb}}
    if leaks:
        with pytest.raises(AssertionError):
            test_board.test_no_leaks(report)
    else:
        test_board.test_no_leaks(report)
