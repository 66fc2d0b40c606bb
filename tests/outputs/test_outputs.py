"""Outputs of the shipped models on real recordings, byte for byte as they were recorded.

An issue that changes a default or a model records them anew, in a commit of its own that says why:

    EDGE_ISP_RECORD_OUTPUTS=1 python -m pytest tests/outputs
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from edge_isp import Detections, ModelOptions, Picture, Pipeline, ReplayCamera
from edge_isp.models.card import shipped_models
from tests.support.recordings import DEMO, REAL_FRAMES, copy_real_frame

RECORDED = Path(__file__).parent / "recorded.json"


def digest(result: Picture | Detections) -> str:
    """SHA-256 of everything that a result says of its frame."""
    parts: list[NDArray[Any]] = (
        [result.rgb] if isinstance(result, Picture) else [result.xyxy, result.confidence, result.class_id]
    )
    sha = hashlib.sha256()
    for part in parts:
        sha.update(f"{part.dtype} {part.shape}".encode())
        sha.update(part.tobytes())
    return sha.hexdigest()


@pytest.mark.parametrize("model", sorted(shipped_models()))
@pytest.mark.parametrize("name", ["demo", *REAL_FRAMES])
def test_outputs_are_as_recorded(model: str, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = DEMO if name == "demo" else copy_real_frame(request.getfixturevalue("data"), name, tmp_path)
    with Pipeline(ReplayCamera(path), ModelOptions(model, tone="srgb")) as pipeline:
        found = [digest(done.result) for done in pipeline]
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    if os.environ.get("EDGE_ISP_RECORD_OUTPUTS"):
        recorded[f"{model} {name}"] = found
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    assert found == recorded[f"{model} {name}"]
