"""edge_isp on an emulated ARM board with a real V4L2 driver (`scripts/test-board`); see `board.py`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_isp.cameras.v4l2.formats import BAYER_FORMATS
from tests.vm.board import BOOKWORM, TRIXIE, Board, Missing, Suite
from tests.vm.model_digest import MODELS, digests

pytestmark = pytest.mark.board

HERE = Path(__file__).parent
FULL = bool(os.environ.get("EDGE_ISP_VM_FULL"))  # scripts/test-board --full
# After which a machine hangs: quiet cores need a third of it or less, cores that others use as well need much more.
LONGEST_S, LONGEST_FULL_S = 3600, 4 * 3600
VIVID_FORMATS = [code for code in BAYER_FORMATS if not code.startswith(("p", "PC1", "ip3")) and "14" not in code]


def seen_on(suite: Suite, share: Path, program: str, *, full: bool, timeout_s: float) -> dict[str, Any]:
    """Builds the board, gives it edge_isp's wheel and a program, and returns what that reports."""
    if not os.environ.get("EDGE_ISP_VM"):
        pytest.skip("boots an emulated ARM board, which takes minutes: EDGE_ISP_VM=1 or scripts/test-board")
    try:
        board = Board(suite)
        board.build()
    except Missing as error:
        pytest.fail(f"asked for by name, but there is no emulated board here: {error}")
    pip = (sys.executable, "-m", "pip")
    source = share / "source"  # a copy, since setuptools builds inside
    shutil.copytree(
        HERE.parents[1], source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "tests", "weights")
    )
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "--wheel-dir", share, source], check=True)
    (wheel,) = share.glob("edge_isp-*.whl")
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", share / "site", wheel], check=True)
    for name in (program, "model_digest.py"):
        shutil.copy(HERE / name, share)
    if full:
        (share / "full").touch()
        shutil.copytree(HERE.parents[1] / "tests", share / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    console = board.run(share, program, timeout_s)
    assert (share / "report.json").exists(), console
    found: dict[str, Any] = json.loads((share / "report.json").read_text())
    print(console)
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `on_the_board.py` saw."""
    return seen_on(
        BOOKWORM,
        tmp_path_factory.mktemp("share"),
        "on_the_board.py",
        full=FULL,
        timeout_s=LONGEST_FULL_S if FULL else LONGEST_S,
    )


@pytest.fixture(scope="module", params=[BOOKWORM, TRIXIE], ids=lambda suite: suite.name)
def suite_report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `on_a_suite.py` saw on a release of Debian."""
    if not FULL:
        pytest.skip("takes an hour: scripts/test-board --full")
    share = tmp_path_factory.mktemp("share")
    found = seen_on(request.param, share, "on_a_suite.py", full=True, timeout_s=LONGEST_FULL_S)
    assert found["python"].startswith(f"{request.param.python}.")
    return found


@pytest.mark.parametrize("name", ["devices", "doctor", "run", "models", "kernels"])
def test_a_release_of_debian(suite_report: dict[str, Any], name: str) -> None:
    found = suite_report[name]
    assert found["status"] == 0, found


def test_integers_of_a_release_are_those_of_this_machine(suite_report: dict[str, Any]) -> None:
    assert json.loads(suite_report["models"]["output"]) == {model: digests(model) for model in MODELS}


def test_it_runs_from_the_wheel_on_arm(report: dict[str, Any]) -> None:
    machine = report["machine"]
    assert machine["machine"] == "aarch64"
    assert machine["edge_isp"] == "/mnt/site/edge_isp"
    assert "Root-Is-Purelib: true" in machine["wheel"]


def test_devices(report: dict[str, Any]) -> None:
    cameras = {part["name"]: part for part in report["devices"]["cameras"]}
    (vivid,) = cameras["v4l2"]["devices"]
    assert (vivid["spec"], vivid["problem"]) == ("v4l2:/dev/video0", None)
    assert {mode["format"] for mode in vivid["modes"]} == set(VIVID_FORMATS)
    rg10 = {mode["size"]: mode["fps"] for mode in vivid["modes"] if mode["format"] == "RG10"}
    assert 30.0 in rg10["640x360"]
    assert "python3-picamera2" in cameras["picamera2"]["problem"]
    engines = {part["name"]: part["problem"] for part in report["devices"]["engines"]}
    assert engines["litert"] is None
    assert "edge-isp[onnx]" in engines["onnxruntime"]


@pytest.mark.parametrize("code", VIVID_FORMATS)
def test_pixels_of_every_format(report: dict[str, Any], code: str) -> None:
    found = report["formats"][code]
    layout = BAYER_FORMATS[code]
    assert found["format"] == f"320x180 {layout.cfa} {layout.bit_depth} bit {layout.packing}"
    assert (found["wrong_pixels"], found["different_levels"], found["status"]) == (0, 2, "OK")


def test_formats_that_the_driver_has_not(report: dict[str, Any]) -> None:
    assert len(VIVID_FORMATS) == 16
    for code in set(BAYER_FORMATS) - set(VIVID_FORMATS):
        assert f"no Bayer format '{code}'; there are: " in report["formats"][code]


@pytest.mark.parametrize("percentage", ["0", "30", "60"])
def test_lost_frames_are_those_of_the_drivers_count(report: dict[str, Any], percentage: str) -> None:
    found = report["drops"][percentage]
    assert found["lost"] == found["lost_by_driver"]
    assert found["gap_flags"] == found["steps_over_one"]
    if percentage != "0":  # some are: how many is the driver's dice
        assert found["lost"] > found["frames"] * int(percentage) / 100 / 2


def test_sequence_overflow(report: dict[str, Any]) -> None:
    found = report["sequence_overflow"]
    assert found["rising"]
    assert found["first"] < 2**32 <= found["last"]


def test_injected_errors(report: dict[str, Any]) -> None:
    found = report["errors"]
    assert found["corrupted"].count(True) == 1
    assert "VIDIOC_REQBUFS failed: EINVAL" in found["reqbufs"]
    assert "VIDIOC_STREAMON failed: EINVAL" in found["streamon"]
    assert "VIDIOC_QBUF failed: EINVAL" in found["qbuf"]
    assert "VIDIOC_DQBUF failed: EIO" in found["fatal"]
    assert found["afterwards"] == "OK"


def test_disconnect(report: dict[str, Any]) -> None:
    found = report["disconnect"]
    assert found["read"].startswith("CameraDisconnectedError: /dev/video0: the camera is gone")
    assert found["held_frame_is_whole"]
    assert found["afterwards"] == ["OK"] * 5


def test_timeout(report: dict[str, Any]) -> None:
    assert report["timeout"].startswith("CameraTimeoutError: v4l2:/dev/video0: no frame within 0.05 s")


def test_what_the_driver_adjusts_is_an_error(report: dict[str, Any]) -> None:
    found = report["adjusted"]
    assert "asked for RG10 333x180, but the driver made it RG10 " in found["size"]
    assert "asked for 30 frames/s, but the driver made it 12.5" in found["rate"]
    assert "no Bayer format 'pRAA'" in found["format"]


def test_controls(report: dict[str, Any]) -> None:
    found = report["controls"]
    assert found["brightness"] == 7
    assert "brightness must be from 0 to 255, found 300" in found["out_of_range"]
    assert "no control 'brihgtness'; it has: " in found["unknown"]


def test_dma_buf(report: dict[str, Any]) -> None:
    assert report["dma_buf"] == {"same_bytes": True}


def test_media(report: dict[str, Any]) -> None:
    found = report["media"]
    assert found["driver"] == "vivid"
    assert "/dev/video0" in found["entities"].values()
    assert found["source"] == "v4l2:/dev/video0"


def test_conformance(report: dict[str, Any]) -> None:
    assert report["conformance"] == "passed"


def test_no_leaks(report: dict[str, Any]) -> None:
    """Of two late plateaus the second is no higher: what is warmed up at first is no leak."""
    found = report["leaks"]
    assert len(set(found["descriptors"])) == 1
    first, second = found["resident_kb"]
    assert second - first < 512, found


@pytest.mark.parametrize("code", ["RG10", "BA81", "BYR2"])
def test_multiplanar_devices(report: dict[str, Any], code: str) -> None:
    found = report["multiplanar"][code]
    assert (found["wrong_pixels"], found["different_levels"], found["status"]) == (0, 2, "OK")


def test_unbinding_while_frames_come(report: dict[str, Any]) -> None:
    found = report["unbinding"]
    assert found["read"].startswith("CameraDisconnectedError")
    assert found["after_s"] < 2
    assert found["held_frame_is_whole"]
    assert found["opening"].startswith("CameraError")
    # On a loaded machine frames may be lost.
    assert found["afterwards"][0] == "OK"
    assert set(found["afterwards"]) <= {"OK", "GAP"}


def test_vimc_through_the_media_controller(report: dict[str, Any]) -> None:
    """Its sub-devices and video device have formats of their own, which the set-up file does not say twice."""
    found = report["vimc"]
    assert found["formats"] == {"SRGGB8_1X8": "640x480 RGGB 8 bit u8", "SGRBG8_1X8": "640x480 GRBG 8 bit u8"}
    assert "VIDIOC_STREAMON" not in found["proposed"]
    assert found["proposed"].endswith("OK")


def test_a_frame_of_v4l2loopback_does_not_change(report: dict[str, Any]) -> None:
    found = report["loopback"]
    assert found["driver"] == "v4l2 loopback"
    assert found["frames_are_those_written"]
    assert found["held_frame_is_whole"]


@pytest.mark.parametrize("model", MODELS)
def test_integers_are_those_of_this_machine(report: dict[str, Any], model: str) -> None:
    assert report["models"][model] == digests(model)


def test_edge_isp_run(report: dict[str, Any]) -> None:
    found = report["run"]
    assert found["status"] == 0, found["errors"]
    lines = [json.loads(line) for line in found["lines"]]
    assert [(line["width"], line["height"], line["source"]) for line in lines] == [(320, 180, "v4l2:/dev/video0")] * 2
