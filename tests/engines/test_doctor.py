"""`edge-isp doctor` on this machine and on boards that are folders of files; what `edge-isp run` says of delegates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_isp import doctor
from edge_isp.board import FIX_GOVERNOR
from edge_isp.cameras.base import CameraDevice, CameraMode
from edge_isp.cameras.picamera2 import import_check
from edge_isp.cameras.picamera2.camera import Picamera2Camera
from edge_isp.cameras.v4l2.camera import V4l2Camera
from edge_isp.cli.doctor import _page
from edge_isp.cli.main import app
from edge_isp.doctor import examine
from edge_isp.errors import CameraError, EdgeIspError
from edge_isp.plugins import names

Recording = Callable[..., Path]


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, (SystemExit, EdgeIspError)):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr or str(result.exception or "")


def test_a_raspberry_pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path
    write(root, **{"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"})
    write(root, **{"proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0"})
    write(root, **{"proc/meminfo": "MemTotal:        8245772 kB\nMemAvailable: 1953125 kB\n"})
    write(root, **{"etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\n'})
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    write(root, **{f"{policy}/scaling_governor": "ondemand\n", f"{policy}/scaling_cur_freq": "1500000\n"})
    write(root, **{f"{policy}/cpuinfo_max_freq": "2400000\n"})
    zone = "sys/class/thermal/thermal_zone0"
    write(root, **{f"{zone}/type": "cpu-thermal\n", f"{zone}/temp": "61850\n"})
    write(root, **{"sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n"})
    for index, name in ((0, "rp1-cfe-csi2_ch0"), (10, "pispbe-input"), (2, "rp1-cfe-fe")):
        write(root, **{f"sys/class/video4linux/video{index}/name": f"{name}\n"})
    write(root, **{"dev/video0": "", "dev/video2": "", "dev/apex_0": ""})
    monkeypatch.setattr(doctor, "access_denied", lambda path: f"no permission on {path}" if "apex" in str(path) else "")

    found = examine(root, try_delegates=False)
    json.dumps(found)
    assert found["board"] == {
        "name": "Raspberry Pi 5 Model B Rev 1.0",
        "soc": "brcm,bcm2712",
        "compatible": ["raspberrypi,5-model-b", "brcm,bcm2712"],
        "memory_mib": 8052,
    }
    assert found["memory"]["available_mb"] == 2000
    assert found["system"]["name"] == "Debian GNU/Linux 13 (trixie)"
    assert found["processor"]["policies"] == [
        {"name": "policy0", "governor": "ondemand", "frequency_khz": 1500000, "maximum_khz": 2400000}
    ]
    assert any(FIX_GOVERNOR in line for line in _page(found))
    found["processor"]["policies"][0]["governor"] = "performance"
    assert not any(FIX_GOVERNOR in line for line in _page(found))
    assert found["temperatures_c"] == {"cpu-thermal (thermal_zone0)": 61.85}
    assert found["throttled"] == {
        "now": ["under-voltage", "throttled"],
        "since_start": ["under-voltage", "throttled"],
    }
    assert [(Path(c["device"]).name, c["name"]) for c in found["cameras"]] == [
        ("video0", "rp1-cfe-csi2_ch0"),
        ("video2", "rp1-cfe-fe"),
        ("video10", "pispbe-input"),
    ]
    assert [bool(c["problem"]) for c in found["cameras"]] == [False, False, True]
    assert found["permissions"]["denied"] == [f"no permission on {root}/dev/apex_0"]
    assert found["picamera2"]


def test_a_machine_of_which_nothing_is_known(tmp_path: Path) -> None:
    found = examine(tmp_path, try_delegates=False)
    assert found["board"]["name"] is None
    assert found["throttled"] is None
    assert found["cameras"] == []
    assert all(delegate["why"] and not delegate["found"] for delegate in found["delegates"])


def test_delegates_that_are_there_are_tried(known_npu: Callable[..., None]) -> None:
    known_npu(operators="concat")
    works = examine()["delegates"][0]
    assert (works["name"], works["found"], works["works"], works["why"]) == ("npu", True, True, "")
    partitions = {partition["executor"]: dict(partition["operators"]) for partition in works["report"]["partitions"]}
    assert partitions == {"npu": {"CONCATENATION": 2}, "XNNPACK": {"CONV_2D": 14}}
    known_npu(fail="create", how="crash")
    fails = examine()["delegates"][0]
    assert (fails["found"], fails["works"]) == (True, False)
    assert "ended with signal SIGABRT" in fails["why"]
    known_npu(models={"*": "npu"})
    assert "runs only models that were compiled for it (variant 'npu')" in examine()["delegates"][0]["why"]


def test_one_page_and_one_object(known_npu: Callable[..., None]) -> None:
    known_npu(fail="prepare")
    code, page, _ = invoke("doctor")
    assert code == 0
    (line,) = [line for line in page.splitlines() if line.startswith("  npu ")]
    assert "found, and fails: " in line
    assert "out of device memory" in line
    for name in ("edgetpu", "rknn", "ai-edge-litert", "numpy", "permissions"):
        assert name in page
    assert "frames are run in tiles where the model needs more than half of it" in page
    (peaks,) = [line for line in page.splitlines() if "rfdcsanet-m-generic: " in line]
    assert re.search(r"4056x3040 5\d{3} \(\d{3}\), 9248x6944 2\d{4} \(1\d{3}\)", peaks)
    (peaks,) = [line for line in page.splitlines() if "rfdcsanet-published-imx219: " in line]
    assert "(" not in peaks  # it cannot be run in tiles
    assert len(page.splitlines()) < 80
    code, text, _ = invoke("doctor", "--json")
    assert code == 0
    assert {delegate["name"] for delegate in json.loads(text)["delegates"]} >= {"npu", "edgetpu", "teflon"}


def test_run_in_tiles(recording: Recording) -> None:
    path = recording(frames=1, width=128, height=96)
    code, output, messages = invoke("run", "--camera", path, "--tile", "80x80")
    assert code == 0, messages
    assert "tiles      of 80x80 pixels; an inference is of one tile" in output
    code, output, _ = invoke("run", "--camera", path, "--memory-budget", 1)
    assert code == 0
    assert "tiles      of 128x96 pixels" not in output  # a frame smaller than a tile
    code, _, messages = invoke("run", "--camera", path, "--tile", "64x64", "--model", "rfdcsanet-published")
    assert code == 1
    assert "cannot be run in tiles: each of its outputs depends on the whole frame" in " ".join(messages.split())
    code, _, messages = invoke("run", "--camera", path, "--tile", "63x64")
    assert code == 2
    assert "expected WIDTHxHEIGHT" in messages


def test_run_says_what_runs_the_model(recording: Recording, npu: str) -> None:
    path = recording(frames=3, width=32, height=24)
    code, output, messages = invoke("run", "--camera", path, "--threads", 1)
    assert code == 0
    assert "runs on the CPU (litert" in messages
    assert "there is no NPU: see 'edge-isp doctor'" in " ".join(messages.split())
    assert "delegate   XNNPACK: 16 of 16 nodes" in output

    # Two operators an inference: six inferences prove it, and two frames run.
    delegate = f"{npu},operators=concat,fail=invoke,after=16"
    code, output, messages = invoke("run", "--camera", path, "--threads", 1, "--delegate", delegate)
    assert code == 0
    # The stream may be ahead of what is said about it.
    assert "runs on 'npu': takes 2 of 16 nodes" in messages or "'npu' was lost: it takes 2 of 16 nodes" in messages
    assert "frames     npu 2, XNNPACK 2" in output
    assert "dropped    npu after 2 frames: " in output

    code, output, _ = invoke("run", "--camera", path, "--threads", 1, "--delegate", npu, "--json")
    assert code == 0
    assert [json.loads(line)["delegate"] for line in output.splitlines()] == ["npu"] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--delegate", "edgetpu"), "delegate 'edgetpu' (Coral Edge TPU) cannot be used: there is no library"),
        (("--delegate", "nope"), "no delegate 'nope'; there are: edgetpu"),
        (("--require-full-delegation",), "full delegation is required, and there is no NPU"),
        (("--engine", "tflite-runtime", "--engine-python", "/nowhere"), "the Python for engine 'tflite-runtime'"),
    ],
)
def test_run_fails_loudly(arguments: tuple[str, ...], message: str, recording: Recording) -> None:
    code, output, messages = invoke("run", "--camera", recording(frames=1), *arguments)
    assert code == 1
    assert message in messages
    assert output.strip().splitlines()[-1].strip().startswith("0 frames")


def test_engines_are_listed() -> None:
    assert {"litert", "tflite-runtime", "onnxruntime", "rknn", "hailo"} <= set(names("engines"))


def test_a_camera_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each camera is a line of its own; one kind that cannot be asked does not hide the others."""
    why = (
        "/dev/video1: cannot be opened: EBUSY; another program has the camera; find it with: sudo fuser -v /dev/video1"
    )
    mode = CameraMode("RG10", "640x480", (30.0,))
    found = [CameraDevice("v4l2:/dev/video0", "sensor", (mode,)), CameraDevice("v4l2:/dev/video1", "busy", (), why)]

    def fail() -> list[CameraDevice]:
        raise CameraError("camera 'picamera2': the package picamera2 is not installed")

    monkeypatch.setattr(V4l2Camera, "devices", staticmethod(lambda: found))
    monkeypatch.setattr(Picamera2Camera, "devices", staticmethod(fail))
    monkeypatch.setattr(import_check, "import_picamera2", fail)
    opened = examine(try_delegates=False)["opened_cameras"]
    assert [(each["spec"], each["modes"], each["problem"]) for each in opened] == [
        ("v4l2:/dev/video0", 1, None),
        ("v4l2:/dev/video1", 0, why),
    ]
    monkeypatch.setattr(doctor, "delegates", dict)
    status, page, _ = invoke("doctor")
    assert status == 0
    assert "v4l2:/dev/video0" in page
    assert "sensor: 1 modes" in page
    assert "busy: cannot be used" in page
    assert "sudo fuser -v /dev/video1" in page


def test_libcamera_that_cannot_list_its_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has a line of its own is that picamera2 cannot be imported, and nothing else."""
    why = "camera 'picamera2': libcamera cannot list its cameras: Permission denied"

    def fail() -> list[CameraDevice]:
        raise CameraError(why)

    monkeypatch.setattr(import_check, "import_picamera2", lambda: json)  # a module that can be imported
    monkeypatch.setattr(Picamera2Camera, "devices", staticmethod(fail))
    monkeypatch.setattr(V4l2Camera, "devices", staticmethod(list))
    opened = examine(try_delegates=False)["opened_cameras"]
    assert [(each["spec"], each["problem"]) for each in opened] == [("picamera2", why)]
