"""Writes a quantised network as a model and the card that describes it: what cards of all tasks share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_isp.files import replace_files
from edge_isp.training.quantisation.arithmetic import Quantisation


def model_lines(name: str, task: str, content: bytes, sensor: str) -> list[str]:
    """The lines of a card that say what the model is, up to the licence.

    Args:
        name: of the model.
        task: "isp" or "detector".
        content: of the model's file.
        sensor: that it was trained for, or "generic".
    """
    return [
        "[model]",
        f'name = "{name}"',
        f'task = "{task}"',
        f'file = "{name}.tflite"',
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"',
        f'sensor = "{sensor}"',
    ]


def tensor_lines(shape: tuple[int, ...], quantisation: Quantisation, layout: str) -> list[str]:
    """The lines of a card that describe an input or an output.

    Args:
        shape: batch, height, width, channels.
        quantisation: of its values.
        layout: what its channels are.
    """
    return [
        f"shape = {list(shape)}",
        'dtype = "int8"',
        f"scale = {quantisation.scale!r}",
        f"zero_point = {quantisation.zero_point}",
        f'layout = "{layout}"',
    ]


def training_lines(training: Mapping[str, object]) -> list[str]:
    """The lines of a card that say how the network was trained.

    Args:
        training: facts by name.
    """
    return ["[training]", *(f"{key} = {toml_value(value)}" for key, value in training.items())]


def write_model(folder: Path, name: str, content: bytes, document: Sequence[str]) -> Path:
    """Writes `NAME.tflite` and `NAME.toml`; returns the model's path.

    Args:
        folder: is made if needed.
        name: of the model.
        content: of the model's file.
        document: lines of the card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tflite"
    replace_files({path: content, path.with_suffix(".toml"): ("\n".join(document) + "\n").encode()})
    return path


def toml_value(value: object) -> str:
    """A string, a number or a table of them as TOML has it.

    Args:
        value: what to write.
    """
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_text(str(key))} = {toml_value(each)}" for key, each in value.items()) + " }"
    return _text(value) if isinstance(value, str) else str(value)


def _text(value: str) -> str:
    """JSON's strings are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
