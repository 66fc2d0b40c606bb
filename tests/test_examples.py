"""The examples run."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_develop_recording(
    recording: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["develop_recording.py", str(recording()), str(tmp_path / "pictures")])
    runpy.run_path(str(EXAMPLES / "develop_recording.py"), run_name="__main__")
    assert "scene_000001.png  read" in capsys.readouterr().out
    assert len(list((tmp_path / "pictures").iterdir())) == 2


def test_encode_one_frame(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "encode_one_frame.py"), run_name="__main__")
    assert "(540, 960, 4) int8" in capsys.readouterr().out
