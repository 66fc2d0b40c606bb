"""The vendors' own compilers, which `scripts/test-npu` installs, each in a virtual environment of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edge_isp.errors import ModelError
from edge_isp.models.card import ModelCard, read_card, shipped_models
from edge_isp.models.compile import compile_model

SIZE, DETECTOR_SIZE = (416, 288), (320, 320)


def program(name: str) -> Path:
    folder = os.environ.get("EDGE_ISP_NPU_VENVS")
    if not folder:
        pytest.skip("EDGE_ISP_NPU_VENVS is not set: it names the folder of the compilers, see scripts/test-npu")
    path = Path(folder, name)
    if not path.exists():
        pytest.skip(f"there is no {path}: scripts/test-npu could not install it")
    return path


@pytest.fixture(params=list(shipped_models()))
def card(request: pytest.FixtureRequest, tmp_path: Path) -> ModelCard:
    """A copy of each shipped model, to be compiled."""
    source = shipped_models()[request.param]
    shutil.copy(source.with_suffix(".tflite"), tmp_path)
    (tmp_path / source.name).write_text(source.read_text().partition("\n[variants.")[0])
    return read_card(tmp_path / source.name)


@pytest.mark.parametrize(
    ("npu", "path"),
    [
        ("ethos-u65-256", "vela/bin/vela"),
        ("rknn-rk3588", "rknn/bin/python"),
        ("qnn-v68", "qnn/bin/python"),
        ("openvino", "openvino/bin/python"),
    ],
)
def test_every_shipped_model_is_taken_whole(npu: str, path: str, card: ModelCard) -> None:
    size = SIZE if card.task == "isp" else DETECTOR_SIZE
    done = compile_model(card, npu, size=size, program=program(path))
    assert done.compiled.operators
    assert done.compiled.operators_on_cpu == 0
    shape = (1, *card.input_size(*size), card.input.shape[3])
    found = read_card(done.card)
    assert found.find_variant("onnx" if npu == "openvino" else npu, shape) == done.path


def test_a_frame_that_compiles_and_does_not_fit(card: ModelCard) -> None:
    """Vela compiles for Ethos-U55 what needs tens of MiB of a microcontroller's SRAM."""
    size = (1280, 720) if card.task == "isp" else (640, 640)
    with pytest.raises(ModelError, match="does not fit on ethos-u55-256: it needs .* which has 2048 KiB"):
        compile_model(card, "ethos-u55-256", size=size, program=program("vela/bin/vela"))
