"""A shipped model is evaluated where PyTorch cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage", reason="scikit-image is not installed: the extra [evaluate] brings it")

# What `edge-isp` does, in a process where PyTorch and what only weights and classical methods need is not there.
_COMMAND = """
import sys
for name in ("torch", "onnx", "onnxruntime", "cv2", "colour_demosaicing"):
    sys.modules[name] = None
from edge_isp.cli.main import main
main()
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(2):
        blocks = np.random.default_rng(i).integers(60, 200, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)).save(folder / f"scene{i}.png")
    return folder


def test_a_shipped_model_needs_no_torch(images: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    arguments = ["evaluate", "isp", "--images", str(images), "--model", "rfdcsanet-s", "--sensor", "imx219"]
    finished = run(*arguments, "--results", str(results), "--json")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert [entry["analogue_gain"] for entry in found] == [1, 4, 16]
    assert all(entry["psnr_db"] > 20 and entry["images"] == 2 for entry in found)
    assert len(json.loads(results.read_text())["results"]) == 6


def test_weights_need_torch(images: Path, tmp_path: Path) -> None:
    weights = tmp_path / "some-float.pt"
    weights.write_bytes(b"")
    finished = run("evaluate", "isp", "--images", str(images), "--weights", str(weights))
    assert finished.returncode == 1
    assert "'edge-isp evaluate isp' needs the package 'torch'" in finished.stderr
    assert "edge-isp[train]" in finished.stderr
