"""Compiles a model for an NPU and one size of frames, by the vendor's compiler, and enters the result in the card."""

from __future__ import annotations

import hashlib
import re
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_isp.errors import ModelError
from edge_isp.files import LARGEST_MODEL_BYTES, read_file, replace_files
from edge_isp.models.card import ModelCard, card_path, read_card, shipped_models
from edge_isp.models.compilers.base import Compiled, Compiler, Job
from edge_isp.models.compilers.table import find_compiler
from edge_isp.models.export import Export, exported
from edge_isp.models.folder import model_folder
from edge_isp.models.memory import activation_bytes
from edge_isp.models.tflite_graph import TfliteGraph


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A variant that was stored.

    Attributes:
        path: of the variant's file.
        card: of the model, with the variant; the path of the TOML file.
        compiled: what the compiler says of it; its path is no longer there.
    """

    path: Path
    card: Path
    compiled: Compiled


def compile_model(
    card: ModelCard,
    npu: str,
    *,
    size: tuple[int, int] | None = None,
    folder: Path | None = None,
    program: Path | None = None,
) -> CompiledModel:
    """Compiles a model and stores the result beside it.

    Args:
        card: of the model, a `.tflite`.
        npu: name of the NPU.
        size: (width, height) of the frames, or of the mosaic that a detector sees. None, for "onnx" only, for every
            size.
        folder: that the variant is stored in; the model and its card are copied there. None for where the model is,
            and for the user's folder of models where it is one that ships.
        program: the vendor's compiler, or the Python that has its package; None for the one that is found.

    Raises:
        ModelError: there is no such NPU, its compiler is not installed or fails, the model does not fit on the chip, or
            nothing can be written.
        MissingDependencyError: the compiler reads `.onnx`, and the package `onnx` is not installed.
    """
    compiler = find_compiler(npu)
    if size is None and npu != "onnx":
        raise ModelError(f"a model is compiled for {npu} for one size of frames, such as 1280x720: give its size")
    content = exported(card, Export(compiler.format, size=size))
    size_name = "any" if size is None else f"{size[0]}x{size[1]}"
    if compiler.activation_bytes is not None:
        needed = activation_bytes(TfliteGraph(content, card.path.name))
        _require_memory(card, compiler, needed, compiler.activation_bytes, size_name)
    with tempfile.TemporaryDirectory(prefix="edge-isp-compile-") as scratch:
        source = Path(scratch, f"{card.name}-{size_name}.{compiler.format.partition('-')[0]}")
        source.write_bytes(content)
        compiled = compiler.run(Job(npu, source, None if program is None else program.absolute()))
        variant = read_file(compiled.path, ModelError, LARGEST_MODEL_BYTES)
    if compiler.on_chip_bytes is not None and compiled.on_chip_bytes is not None:
        _require_memory(card, compiler, compiled.on_chip_bytes, compiler.on_chip_bytes, size_name)
    if compiled.operators and compiled.operators_on_cpu == compiled.operators:
        raise ModelError(f"'{card.name}': {compiler.npu} takes none of its {compiled.operators} operators")
    if compiler.suffix == ".tflite":
        _require_same_tensors(content, variant, npu)
    target = folder or (model_folder() if _is_shipped(card) else card.path.parent)
    name = compiler.variant or npu
    path = target / f"{card.name}-{name}-{size_name}{compiler.suffix}"
    return CompiledModel(path, _store(card, target, name, size_name, path, variant, compiled), compiled)


def _require_memory(card: ModelCard, compiler: Compiler, needed: int, limit: int, size_name: str) -> None:
    """Refuses what the chip has no memory for: that a compiler ends well does not say that."""
    if needed > limit:
        raise ModelError(
            f"'{card.name}' at {size_name} does not fit on {compiler.npu}: it needs {needed / 1024:.0f} KiB of memory "
            f"on the chip, which has {limit / 1024:.0f} KiB; compile it for smaller frames and run larger ones with "
            "--tile"
        )


def _require_same_tensors(source: bytes, variant: bytes, npu: str) -> None:
    """Refuses a compiled `.tflite` whose inputs and outputs are not the model's."""
    ours, theirs = _tensors(source), _tensors(variant)
    if ours != theirs:
        raise ModelError(f"the compiler of {npu} changed the model's inputs and outputs: {ours} became {theirs}")


def _tensors(content: bytes) -> list[tuple[Any, ...]]:
    """Shape, type, scale and zero point of the inputs and outputs of a `.tflite`."""
    from ai_edge_litert import schema_py_generated as schema

    try:
        model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
        (graph,) = model.subgraphs
        described = []
        for index in (*graph.inputs, *graph.outputs):
            tensor = graph.tensors[index]
            quantisation = tensor.quantization
            described.append(
                (
                    tuple(int(n) for n in tensor.shape),
                    int(tensor.type),
                    tuple(float(scale) for scale in quantisation.scale),
                    tuple(int(point) for point in quantisation.zeroPoint),
                )
            )
    except (struct.error, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelError(f"the compiler wrote no .tflite of one graph: {error}") from error
    return described


def _is_shipped(card: ModelCard) -> bool:
    return card.path.parent in {path.parent for path in shipped_models().values()}


def _store(
    card: ModelCard, folder: Path, name: str, size_name: str, path: Path, variant: bytes, compiled: Compiled
) -> Path:
    """Writes the variant and the card that names it, and a copy of the model with the variants that it has, where it is
    not there; the card's path."""
    source = card_path(card.path)
    target = folder / source.name
    contents: dict[Path, bytes] = {}
    if target.resolve() != source.resolve():
        if target.exists():
            if read_card(target).sha256 != card.sha256:
                raise ModelError(
                    f"{target}: is the card of another model or release; remove it, or name another folder"
                )
            source = target  # it may have variants already
        else:
            contents |= {
                folder / v.path.name: read_file(v.path, ModelError, LARGEST_MODEL_BYTES) for v in card.variants
            }
        contents[folder / card.path.name] = card.path.read_bytes()
    entry = [
        f"[variants.{name}.{size_name}]",
        f'file = "{path.name}"',
        f'sha256 = "{hashlib.sha256(variant).hexdigest()}"',
        f'model_sha256 = "{card.sha256}"',
        f'compiler = "{compiled.tool}"',
    ]
    if compiled.frames_per_second is not None:
        entry.append(f"estimated_frames_per_second = {compiled.frames_per_second:.1f}")
    if compiled.on_chip_bytes is not None:
        entry.append(f"on_chip_bytes = {compiled.on_chip_bytes}")
    text = _with_entry(source.read_text(encoding="utf-8"), entry)
    contents |= {path: variant, target: text.encode()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_files(contents)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror}") from error
    return target


def _with_entry(text: str, entry: list[str]) -> str:
    """A card's text with a table, in the place of an older one of that name.

    Args:
        text: of the card.
        entry: lines, the header first.
    """
    kept, skipped = [], False
    for line in text.splitlines():
        if re.match(r"\s*\[", line):
            skipped = line.strip() == entry[0]
        if not skipped:
            kept.append(line)
    return "\n".join(kept).rstrip() + "\n\n" + "\n".join(entry) + "\n"
