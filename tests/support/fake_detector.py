"""A fake detector: a card, a file that holds no network, and an engine that finds coloured rectangles in the tensor.

It answers as a network would, in int8 logits of nine outputs, so that everything around the network is tested end to
end: what the tensor shows, and where the boxes come out.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import EngineReport, TensorInfo, check_inputs

CLASSES = ("red", "green", "blue")
CHANNELS = {"box": 4, "objectness": 1, "class": len(CLASSES)}
# Scale and zero point. Boxes: centres to a fiftieth of a stride, sizes to 2 %.
QUANTISATION = {"box": (0.02, -10), "objectness": (0.1, 20), "class": (0.11, -5)}
# The file's order is not that of the strides, nor of the layouts.
ORDER = [(stride, layout) for stride in (32, 8, 16) for layout in ("class", "box", "objectness")]
CONFIDENCE = float(1 / (1 + np.exp(-(120 - 20) * 0.1)) / (1 + np.exp(-(60 + 5) * 0.11)))


def write_fake_detector(folder: Path, *, cells: int = 208) -> Path:
    """Writes the card and its file; returns the card's path."""
    path = folder / "fake-detector-generic.tflite"
    path.write_bytes(b"no network: a fake of the tests")
    lines = [
        "[model]",
        'name = "fake-detector-generic"',
        'task = "detector"',
        f'file = "{path.name}"',
        f'sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"',
        'sensor = "generic"',
        'licence = "Apache-2.0"',
        f"classes = {list(CLASSES)}",
        "[input]",
        f"shape = [1, {cells}, {cells}, 4]",
        'dtype = "int8"',
        f"scale = {1 / 255!r}",
        "zero_point = -128",
        'layout = "rggb"',
        'curve = "sqrt"',
    ]
    for stride, layout in ORDER:
        scale, zero_point = QUANTISATION[layout]
        side = 2 * cells // stride
        lines += [
            "[[outputs]]",
            f"shape = [1, {side}, {side}, {CHANNELS[layout]}]",
            'dtype = "int8"',
            f"scale = {scale}",
            f"zero_point = {zero_point}",
            f'layout = "{layout}"',
            f"stride = {stride}",
        ]
    card = path.with_suffix(".toml")
    card.write_text("\n".join(lines) + "\n")
    return card


class FakeDetectorEngine:
    """Finds the bounding box of all that is red, green and blue; the protocol of an engine."""

    def __init__(self, path: str | Path, *, threads: int | None = None, sha256: str | None = None) -> None:
        self.path = Path(path)
        self.seen: list[NDArray[np.int8]] = []
        self._shape: tuple[int, ...] = (1, 208, 208, 4)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return (TensorInfo("input", self._shape, "int8", 1 / 255, -128),)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return tuple(
            TensorInfo(f"{layout}{stride}", self._output_shape(stride, layout), "int8", *QUANTISATION[layout])
            for stride, layout in ORDER
        )

    @property
    def report(self) -> EngineReport:
        return EngineReport("fake", "none", 1)

    def resize(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        check_inputs(self.path, inputs, self.inputs)
        self.seen.append(inputs[0].copy())
        outputs = {key: np.full(self._output_shape(*key), -128, np.int8) for key in ORDER}
        light = inputs[0][0].astype(int) + 128
        colours = np.stack([light[..., 0], light[..., 1:3].min(-1), light[..., 3]], -1)
        for class_id in range(3):
            others = np.delete(colours, class_id, -1)
            rows, columns = np.nonzero(colours[..., class_id] > 2 * others.max(-1) + 20)
            if len(rows):
                # In pixels of the mosaic; a cell is 2x2 of them.
                y0, y1, x0, x1 = 2 * rows.min(), 2 * rows.max() + 2, 2 * columns.min(), 2 * columns.max() + 2
                self._answer(outputs, class_id, (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
        return [outputs[key] for key in ORDER]

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _output_shape(self, stride: int, layout: str) -> tuple[int, int, int, int]:
        return (1, 2 * self._shape[1] // stride, 2 * self._shape[2] // stride, CHANNELS[layout])

    @staticmethod
    def _answer(outputs: Any, class_id: int, x: float, y: float, width: float, height: float) -> None:
        # The level whose codes hold the size.
        stride = next(s for s in (8, 16, 32) if max(width, height) <= 12 * s or s == 32)
        row, column = int(y // stride), int(x // stride)
        scale, zero_point = QUANTISATION["box"]
        logits = [x / stride - column, y / stride - row, np.log(width / stride), np.log(height / stride)]
        outputs[stride, "box"][0, row, column] = np.clip(np.rint(np.array(logits) / scale) + zero_point, -128, 127)
        outputs[stride, "objectness"][0, row, column] = 120
        outputs[stride, "class"][0, row, column, class_id] = 60
