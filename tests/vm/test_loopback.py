"""The virtual camera on an emulated machine with the real v4l2loopback module; see `loopback.py`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.vm.board import Missing
from tests.vm.loopback import LoopbackMachine

pytestmark = pytest.mark.board


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `on_the_loopback_machine.py` saw."""
    if not os.environ.get("EDGE_ISP_VM"):
        pytest.skip("boots an emulated machine, which takes minutes: EDGE_ISP_VM=1 or scripts/test-board")
    pytest.importorskip("cv2", reason="needs OpenCV")
    try:
        machine = LoopbackMachine()
        machine.build()
    except Missing as error:
        pytest.skip(f"no emulated machine here: {error}")
    share = tmp_path_factory.mktemp("share")
    shutil.copy(Path(__file__).parent / "on_the_loopback_machine.py", share)
    console = machine.run(share, "on_the_loopback_machine.py")
    assert (share / "report.json").exists(), console
    found: dict[str, Any] = json.loads((share / "report.json").read_text())
    print(console)
    return found


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
    assert "/dev/video10: asked for YUYV 640x480" in report["held"]
    assert "but the driver keeps YUYV 320x240" in report["held"]


def test_conformance(report: dict[str, Any]) -> None:
    assert report["conformance"] == "passed"
