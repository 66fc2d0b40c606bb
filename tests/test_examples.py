"""The examples run."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import edge_isp

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_develop_recording(
    recording: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["develop_recording.py", str(recording()), str(tmp_path / "pictures")])
    runpy.run_path(str(EXAMPLES / "develop_recording.py"), run_name="__main__")
    assert re.search(r"scene_\d{8}T\d{6}Z_000001\.png  read", capsys.readouterr().out)
    assert len(list((tmp_path / "pictures").iterdir())) == 2


def test_encode_one_frame(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "encode_one_frame.py"), run_name="__main__")
    assert "(540, 960, 4) int8" in capsys.readouterr().out


def test_stream_service(
    recording: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["stream_service.py", str(recording())])
    caplog.set_level("INFO")
    runpy.run_path(str(EXAMPLES / "stream_service.py"), run_name="__main__")
    told = [record.getMessage() for record in caplog.records if record.name == "stream_service"]
    assert "running " in told
    assert any(message.startswith("rfdcsanet-s: FrameCounts(frames=2, delivered=2, skipped=0") for message in told)
    assert any(message.startswith("rfdcsanet-m: FrameCounts(frames=2, delivered=1, skipped=1") for message in told)


def test_stream_service_opens_any_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "photo.png")
    opened: list[object] = []
    open_camera = edge_isp.open_camera

    def note(spec: str) -> edge_isp.Camera:
        opened.append(spec)
        return open_camera(spec)

    monkeypatch.setattr(edge_isp, "open_camera", note)
    spec = f"synthetic:{tmp_path}/photo.png,fps=30,width=64,height=64,frames=2"
    monkeypatch.setattr(sys, "argv", ["stream_service.py", spec])
    runpy.run_path(str(EXAMPLES / "stream_service.py"), run_name="__main__")
    assert opened == [spec]


def test_the_unit_starts_what_there_is() -> None:
    unit = (EXAMPLES / "edge-isp.service").read_text()
    assert "Type=notify" in unit
    (command,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    _, script, _ = command.split()
    assert (EXAMPLES.parent / "examples" / Path(script).name).is_file()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (EXAMPLES / "edge-isp.service").read_text().replace("/opt/edge-isp/.venv/bin/python", sys.executable)
    path = tmp_path / "edge-isp.service"
    path.write_text(unit)
    result = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert str(path) not in result.stderr
