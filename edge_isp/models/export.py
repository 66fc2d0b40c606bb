"""Makes a shipped model, or one's own, into the file that an NPU's compiler or another runtime takes, with its card."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_isp.errors import MissingDependencyError, ModelError
from edge_isp.files import replace_files
from edge_isp.models.card import ModelCard, card_path, read_card
from edge_isp.models.tflite_graph import TfliteGraph

# The formats that edge_isp runs, which get a card, and those that only compilers take.
RUN_FORMATS, COMPILER_FORMATS = ("tflite", "onnx"), ("onnx-nchw", "onnx-float")
FORMATS = (*RUN_FORMATS, *COMPILER_FORMATS)
LAYOUTS = ("planes12", "rgb")


@dataclass(frozen=True, slots=True)
class Export:
    """What to make of a model.

    Attributes:
        format: "tflite"; "onnx" with QuantizeLinear and DequantizeLinear around float operators; for compilers
            "onnx-nchw", the same with int8 inputs and outputs NCHW, or "onnx-float", float32 NCHW without quantisation.
        layout: "planes12" leaves the model's outputs as they are; "rgb" puts its 12 planes together to a picture.
        size: (width, height) of the frames, both even, or of the mosaic that a detector sees; None,
            which "tflite" cannot, leaves it open.
    """

    format: str
    layout: str = "planes12"
    size: tuple[int, int] | None = None


def export_model(card: ModelCard, folder: Path, export: Export) -> Path:
    """Writes a model and its card into a folder, whole or not at all; returns the model's path.

    The file holds the integers of the card's `.tflite`, or the values that they stand for: the weights are not
    quantised again. The card is the model's own with another file, SHA-256, shapes and output layout. What only
    compilers take has none; scales and zero points stand in its metadata "edge_isp", as JSON.

    Raises:
        ModelError: what is asked for does not exist, the model is not what its card says, or nothing can be written.
        MissingDependencyError: an `.onnx` is asked for and the package `onnx` is not installed.
    """
    content, changes = _made(card, export)
    size = f"-{export.size[0]}x{export.size[1]}" if export.size else ""
    rgb = "-rgb" if export.layout == "rgb" else ""
    suffix, _, form = export.format.partition("-")
    path = folder / f"{card.name}{size}{rgb}{f'-{form}' if form else ''}.{suffix}"
    if export.format in COMPILER_FORMATS:
        _write(path, {path: content})
        return path
    changes["model", "file"] = f'"{path.name}"'
    changes["model", "sha256"] = f'"{hashlib.sha256(content).hexdigest()}"'
    _write(path, {path: content, _new_card_path(path): card_text(card, changes).encode()})
    return path


def exported(card: ModelCard, export: Export) -> bytes:
    """The content of the file that `export_model` writes.

    Args:
        card: of the model.
        export: what to make of it.

    Raises:
        ModelError: what is asked for does not exist, or the model is not what its card says.
        MissingDependencyError: an `.onnx` is asked for and the package `onnx` is not installed.
    """
    return _made(card, export)[0]


def _made(card: ModelCard, export: Export) -> tuple[bytes, dict[tuple[str, str], str]]:
    """The content of a file, and what its card says otherwise than the model's own."""
    _verify(card, export)
    card.verify_file()
    graph = TfliteGraph(card.path.read_bytes(), str(card.path))
    width, height = export.size or (card.cell * card.input.shape[2], card.cell * card.input.shape[1])
    rows, columns = card.input_size(width, height)
    graph.resize(rows, columns)
    rgb = export.layout == "rgb"
    if export.format != "tflite":
        content = _onnx(graph, export)
    else:
        if rgb:
            graph.append_depth_to_space()
        content = graph.to_bytes()
    changes = {("input", "shape"): str([1, rows, columns, card.input.shape[3]])}
    if card.task == "isp":
        shape = [1, height, width, 3] if rgb else [1, rows, columns, card.outputs[0].shape[3]]
        changes["output", "shape"] = str(shape)
        changes["output", "layout"] = f'"{export.layout if rgb else card.outputs[0].layout}"'
    else:
        for place, index in enumerate(graph.outputs):
            changes[f"outputs.{place}", "shape"] = str(list(graph.shape(index)))
    return content, changes


def _verify(card: ModelCard, export: Export) -> None:
    for what, found, known in (("format", export.format, FORMATS), ("layout", export.layout, LAYOUTS)):
        if found not in known:
            raise ModelError(f"{what} must be one of {', '.join(known)}, found '{found}'")
    if card.path.suffix != ".tflite" or card.outputs[0].layout == "rgb":
        raise ModelError(
            f"{card.path}: only a .tflite with 12 output planes, or of a detector, can be exported, and this is an "
            "export already; name the model that it was made of"
        )
    if export.layout == "rgb" and card.task != "isp":
        raise ModelError(f"'{card.name}' makes no picture: its task is '{card.task}'; export it without layout 'rgb'")
    if export.layout == "rgb" and card.outputs[0].layout != "planes12":
        raise ModelError(
            f"'{card.name}' cannot be exported with layout 'rgb': its output is a residual, which edge_isp adds to a "
            "demosaicing and develops with the sensor's colour matrix; export it with layout 'planes12'"
        )
    if export.size is None and export.format == "tflite":
        raise ModelError(
            f"'{card.name}' as .tflite needs the frames' size, such as 1920x1080; without one it is {card.path} itself"
        )
    if export.size is not None and (min(export.size) < 2 or any(n % 2 for n in export.size)):
        width, height = export.size
        raise ModelError(f"size must be even, at least 2x2, since the mosaic is of 2x2 cells; found {width}x{height}")
    step = max(output.stride for output in card.outputs)
    if export.size is not None and step and any(n % step for n in export.size):
        width, height = export.size
        raise ModelError(f"size must be whole steps of {step} for '{card.name}'; found {width}x{height}")


def _onnx(graph: TfliteGraph, export: Export) -> bytes:
    try:
        from edge_isp.models.qdq_onnx import Form, qdq_onnx
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise MissingDependencyError("export to .onnx", "onnx", "onnx") from error
    form = {"onnx": Form.QDQ, "onnx-nchw": Form.QDQ_NCHW, "onnx-float": Form.FLOAT_NCHW}[export.format]
    return qdq_onnx(graph, static=export.size is not None, rgb=export.layout == "rgb", form=form)


def card_text(card: ModelCard, changes: Mapping[tuple[str, str], str]) -> str:
    """The card's text, comments and all, with other values; without variants, which are of another file.

    Args:
        card: of the model.
        changes: by section and key; the tables of an array are its sections "NAME.0", "NAME.1" and so on.

    Raises:
        ModelError: a value does not stand on a line of its own.
    """
    source = card_path(card.path)
    lines, section, tables = [], "", Counter[str]()
    for line in source.read_text(encoding="utf-8").splitlines():
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            section = header[1]
        elif header := re.match(r"\s*\[\[\s*([\w-]+)\s*\]\]", line):
            section = f"{header[1]}.{tables[header[1]]}"
            tables[header[1]] += 1
        if section.startswith("variants."):
            continue
        key = line.partition("=")[0].strip()
        lines.append(f"{key} = {changes[section, key]}" if (section, key) in changes else line)
    text = "\n".join(lines) + "\n"
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        document = {}
    for (section, key), value in changes.items():
        name, _, place = section.partition(".")
        table = document.get(name, {})
        table = table if not place else table[int(place)] if isinstance(table, list) and len(table) > int(place) else {}
        if table.get(key) != tomllib.loads(f"value = {value}")["value"]:
            raise ModelError(f"{source}: expected '{key} = ...' on a line of its own under [{section}], found none")
    return text


def _new_card_path(path: Path) -> Path:
    """Where the card of a new file stands: see `card.card_path`. A card of another file keeps its place."""
    found = card_path(path)
    if found.exists() and read_card(found).path.name != path.name:
        return path.with_name(f"{path.name}.toml")
    return found


def _write(path: Path, contents: Mapping[Path, bytes]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files(contents)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror}") from error
