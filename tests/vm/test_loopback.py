"""The virtual camera on an emulated machine with the real v4l2loopback module; see `loopback.py`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import edge_isp
from tests.vm.board import Missing
from tests.vm.loopback import LoopbackMachine
from tests.vm.tools import CAN_LOOP_BACK

pytestmark = pytest.mark.board


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `on_the_loopback_machine.py` saw."""
    if not os.environ.get("EDGE_ISP_VM"):
        pytest.skip("boots an emulated machine, which takes minutes: EDGE_ISP_VM=1 or scripts/test-board")
    if not CAN_LOOP_BACK:
        pytest.skip("the emulated machine runs this one's own programs: needs x86-64")
    try:
        machine = LoopbackMachine()
        machine.build()
    except Missing as error:
        pytest.fail(f"asked for by name, but there is no emulated machine here: {error}")
    share = tmp_path_factory.mktemp("share")
    shutil.copy(Path(__file__).parent / "on_the_loopback_machine.py", share)
    console = machine.run(share, "on_the_loopback_machine.py")
    assert (share / "report.json").exists(), console
    found: dict[str, Any] = json.loads((share / "report.json").read_text())
    print(console)
    return found


def test_the_machine_ran_this_code(report: dict[str, Any]) -> None:
    """The machine's /tmp is its own: a working tree there is not seen, and an installed edge_isp would be tested."""
    assert report["edge_isp"] == edge_isp.__file__


@pytest.mark.parametrize(("form", "code"), [("yuyv", "YUYV"), ("i420", "YU12")])
def test_v4l2_ctl_reads_the_very_pixels(report: dict[str, Any], form: str, code: str) -> None:
    found = report[form]
    assert found.get("status") == 0, found
    assert f"'{code}'" in found["format"]
    assert "320/240" in found["format"].replace(" ", "")
    assert found["same"] == [True] * 5


def test_opencv_reads_the_very_pixels(report: dict[str, Any]) -> None:
    assert report["opencv"] == {"frames": 5, "same": [True] * 5}


def test_a_format_that_a_reader_holds(report: dict[str, Any]) -> None:
    """The module says EINVAL, since its buffers are in use."""
    assert report["held"].startswith("/dev/video10: "), report["held"]
    assert "sudo fuser -v /dev/video10" in report["held"]


def test_another_size_in_one_stream(report: dict[str, Any]) -> None:
    first, second = report["another_size"]["formats"]
    assert "320/240" in first.replace(" ", "")
    assert "640/480" in second.replace(" ", "")


def test_conformance(report: dict[str, Any]) -> None:
    assert report["conformance"] == "passed"
