"""The file of a model that an engine takes: what ONNX Runtime or a compiler of one frame size needs is exported."""

from __future__ import annotations

from pathlib import Path

from edge_isp.bench.frames import MemoryCamera
from edge_isp.bench.plan import Subject
from edge_isp.engines.delegates import find_delegate
from edge_isp.models.card import ModelCard, find_model
from edge_isp.models.export import Export, export_model
from edge_isp.pipeline.runner import Model

_NO_DELEGATE = ("auto", "none")


def engine_of(subject: Subject) -> str | None:
    """The name of the engine that a subject asks for, by its own name or by its delegate; None for the file's.

    Args:
        subject: what is measured.

    Raises:
        PluginError: there is no delegate of that name.
    """
    name = subject.delegate.partition(",")[0]
    if subject.engine is not None or name in _NO_DELEGATE or "/" in name:
        return subject.engine
    return find_delegate(name).engine


def model_file(subject: Subject, width: int, height: int, folder: Path) -> str:
    """The model's name, or the path of a file that was made of it for the engine.

    Args:
        subject: what is measured.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        folder: that files are written into.

    Raises:
        ModelError: there is no such model, or it cannot be exported.
        MissingDependencyError: ONNX Runtime is to run a `.tflite`, and the package `onnx` is not installed.
        PluginError: there is no delegate of that name.
    """
    engine = engine_of(subject)
    card = find_model(subject.model, None)
    if card.path.suffix != ".tflite":
        return subject.model
    if engine == "onnxruntime":
        return str(_exported(card, folder, Export("onnx")))
    if engine == "compiled-model":
        with MemoryCamera(width, height, fps=None) as camera:
            frame = camera.read()
        assert frame is not None
        _, task = Model(subject.model_options).prepare(frame)
        _, rows, columns, _ = task.input_shape(frame.format)
        size = (width, height) if card.task == "isp" else (columns * card.cell, rows * card.cell)
        return str(_exported(card, folder, Export("tflite", size=size)))
    return subject.model


def _exported(card: ModelCard, folder: Path, export: Export) -> Path:
    """The exported file, which is made once for each folder."""
    size = f"-{export.size[0]}x{export.size[1]}" if export.size else ""
    path = folder / f"{card.name}{size}.{export.format}"
    return path if path.exists() else export_model(card, folder, export)
