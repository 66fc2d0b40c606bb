"""The shipped detector: its file is what was trained, and runs as PyTorch computes it, whole on the delegate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the extra [train] brings it")

from PIL import Image  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from edge_isp.cameras.replay import ReplayCamera  # noqa: E402
from edge_isp.cli.main import app  # noqa: E402
from edge_isp.engines.litert import LiteRtEngine  # noqa: E402
from edge_isp.models.card import find_model  # noqa: E402
from edge_isp.tasks.detect import DetectTask  # noqa: E402
from edge_isp.training.export.tflite import to_tflite  # noqa: E402
from edge_isp.training.graph import trace  # noqa: E402
from edge_isp.training.networks.yolox import CLASS_NAMES, YoloxNano  # noqa: E402
from edge_isp.training.quantisation.arithmetic import QuantisedGraph  # noqa: E402
from edge_isp.training.quantisation.silu import load_quantised_silu_network  # noqa: E402

WEIGHTS = Path(__file__).parents[2] / "weights"
CARD = find_model("raw-detector", None)


@pytest.fixture(scope="module")
def quantised() -> QuantisedGraph:
    return load_quantised_silu_network(WEIGHTS / f"{CARD.name}-int8.pt", trace(YoloxNano().eval()))


def test_the_shipped_file_is_what_its_weights_export_to(quantised: QuantisedGraph) -> None:
    _, height, width, channels = CARD.input.shape
    assert to_tflite(quantised, height=height, width=width, channels=channels) == CARD.path.read_bytes()


def test_the_float_weights_are_a_student() -> None:
    YoloxNano().load_state_dict(torch.load(WEIGHTS / f"{CARD.name}-float.pt", weights_only=True))


def test_its_classes_are_those_of_its_teacher() -> None:
    assert CARD.classes == CLASS_NAMES


@pytest.mark.parametrize("size", [320, 416, 640])
def test_litert_computes_what_pytorch_does_on_a_real_frame(size: int, quantised: QuantisedGraph, data: Path) -> None:
    task = DetectTask(CARD, input_size=size)
    with ReplayCamera(data / "raw" / "colorchart.dng") as camera:
        frame = camera.read()
    assert frame is not None
    tensor = np.empty(task.input_shape(frame.format), np.int8)
    task.encode(frame, tensor)
    expected = quantised.run(torch.from_numpy(tensor).permute(0, 3, 1, 2))
    with LiteRtEngine(CARD.path, threads=1) as engine:
        engine.resize(tensor.shape)
        found = engine.run([tensor])
        executed = [entry["op_name"] for entry in engine._interpreter._get_ops_details()]
    assert executed.count("DELEGATE") == 1
    for output, wanted in zip(found, expected, strict=True):
        difference = np.abs(output.astype(int) - wanted.permute(0, 2, 3, 1).numpy().astype(int))
        assert difference.max() <= 1


def test_it_sees_what_is_there(data: Path, tmp_path: Path) -> None:
    """Somebody with an umbrella, through the synthetic camera."""
    image = data / "coco" / "images" / "train2017" / "000000000036.jpg"
    with Image.open(image) as opened:
        width, height = (n // 2 * 2 for n in opened.size)
    spec = f"synthetic:{image},width={width},height={height},fps=30"
    result = CliRunner().invoke(
        app, ["run", "--camera", spec, "--model", "raw-detector", "--frames", "1", "--json", "--save", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    line = json.loads(result.stdout.splitlines()[0])
    assert line["detections"], "nothing found"
    best = line["detections"][0]
    assert set(best) == {"box", "confidence", "class_id", "class_name"}
    assert best["class_name"] in ("person", "umbrella")
    assert best["confidence"] > 0.5
    x0, y0, x1, y1 = best["box"]
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    assert list(tmp_path.glob("*.png"))
