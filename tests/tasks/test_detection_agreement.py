"""A detector on an NPU: correct arithmetics agree with the CPU, and the faults that matter do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp.cameras.spec import demo_recording, open_camera
from edge_isp.engines.base import TensorInfo
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.onnxruntime import OnnxRuntimeEngine
from edge_isp.engines.parity import compare
from edge_isp.errors import ModelError
from edge_isp.metering.meter import complete_frame
from edge_isp.models.card import find_model, read_card
from edge_isp.models.export import Export, export_model
from edge_isp.tasks.detect import DetectTask
from tests.support.fake_detector import write_fake_detector

Outputs = list[NDArray[np.int8]]
CARD = find_model("raw-detector", None)
TASK = DetectTask(CARD)


@pytest.fixture(scope="module")
def tensor() -> NDArray[np.int8]:
    with open_camera(f"replay:{demo_recording()}") as camera:
        frame = camera.read()
    assert frame is not None
    made = np.empty(TASK.input_shape(frame.format), np.int8)
    TASK.encode(complete_frame(frame), made)
    return made


@pytest.fixture(scope="module")
def reference(tensor: NDArray[np.int8]) -> Outputs:
    with LiteRtEngine(CARD.path, threads=1) as engine:
        return engine.run([tensor])


def off(reference: Outputs, layout: str, codes: int, channels: slice = slice(None), stride: int = 0) -> Outputs:
    """Outputs of which those of a layout are off by so many codes, as far as int8 goes."""
    made = [output.copy() for output in reference]
    for output, card in zip(made, CARD.outputs, strict=True):
        if card.layout == layout and stride in (0, card.stride):
            output[..., channels] = np.clip(output[..., channels].astype(int) + codes, -128, 127)
    return made


def rms_lsb(outputs: Sequence[NDArray[np.int8]], reference: Outputs) -> float:
    infos = [TensorInfo("output", card.shape, card.dtype, card.scale, card.zero_point) for card in CARD.outputs]
    return compare(outputs, reference, infos).rms_lsb


def test_litert_s_own_kernels_agree(tensor: NDArray[np.int8], reference: Outputs) -> None:
    with LiteRtEngine(CARD.path, threads=1, xnnpack=False) as engine:
        found = engine.run([tensor])
    assert 2 < rms_lsb(found, reference) < CARD.agreement.rms_lsb[0] / 2
    assert TASK.compare_results(found, reference) == ""


def test_onnx_runtime_agrees(tensor: NDArray[np.int8], reference: Outputs, tmp_path: Path) -> None:
    path = export_model(CARD, tmp_path, Export("onnx", size=(416, 416)))
    with OnnxRuntimeEngine(path, threads=1) as engine:
        found = engine.run([tensor])
    assert 1 < rms_lsb(found, reference) < CARD.agreement.rms_lsb[0] / 2
    assert TASK.compare_results(found, reference) == ""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda o: off(o, "objectness", -18), r"objectness -18.0 LSB \(allowed 10\)$"),
        (lambda o: off(o, "objectness", 18), r"objectness \+18.0 LSB"),
        (lambda o: off(o, "box", 8), r"off by: x \+8.0 LSB \(allowed 3.5\), y \+8.0 .*, width \+8.0 .*, height \+8.0"),
        (lambda o: off(o, "box", -8), r"off by: x -8.0 LSB \(allowed 3.5\), y -8.0 .*, width -8.0 .*, height -8.0"),
        (lambda o: off(o, "box", 8, slice(2, 4)), r"off by: width \+8.0 LSB \(allowed 3.5\), height \+8.0"),
        (lambda o: off(o, "box", 8, slice(0, 1)), r"off by: x \+8.0 LSB \(allowed 3.5\)$"),
        (lambda o: off(o, "class", -18), r"off by: class -18.0 LSB \(allowed 7\)$"),
        (lambda o: [np.roll(output, 1, -1) for output in o], "off by: .*class -"),
        (lambda o: [np.roll(output, 5, 2) for output in o], "off by: .*objectness -"),
        (lambda o: [np.zeros_like(output) for output in o], "off by: "),
    ],
)
def test_faults_are_found(fault: Callable[[Outputs], Outputs], reason: str, reference: Outputs) -> None:
    assert re.search(reason, TASK.compare_results(fault(reference), reference))


def test_the_root_mean_square_alone_finds_neither(reference: Outputs) -> None:
    assert rms_lsb(off(reference, "objectness", -18), reference) < 2
    assert rms_lsb(off(reference, "box", 8), reference) < 2


def test_limits_are_the_cards(tmp_path: Path, reference: Outputs) -> None:
    path = write_fake_detector(tmp_path)
    assert read_card(path).detection_agreement.objectness_lsb == 10
    text = path.read_text()
    path.write_text(f"{text}[agreement.detections]\nbox_lsb = 1\nobjectness_lsb = 2.5\nclass_lsb = 3\n")
    agreement = read_card(path).detection_agreement
    assert (agreement.box_lsb, agreement.objectness_lsb, agreement.class_lsb) == (1, 2.5, 3)
    path.write_text(f"{text}[agreement.detections]\nbox_lsb = 1\nobjectness_lsb = 0\nclass_lsb = 3\n")
    with pytest.raises(
        ModelError, match=r"agreement.detections.objectness_lsb must be a positive finite number, found 0"
    ):
        read_card(path)
    path.write_text(f"{text}[agreement.detections]\nbox_lsb = 1\n")
    with pytest.raises(ModelError, match=r"agreement.detections\] lacks"):
        read_card(path)
