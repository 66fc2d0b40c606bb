"""ModelCard: what a model takes, what it gives, where it comes from; a TOML file beside the model."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edge_isp.errors import ModelError, did_you_mean, shortened
from edge_isp.files import LARGEST_MODEL_BYTES, read_file
from edge_isp.kernels.layout import input_size
from edge_isp.models.folder import local_models
from edge_isp.models.pinned import SHA256
from edge_isp.toml_file import TomlTable, describe, read_toml

_log = logging.getLogger(__name__)

# In a card, the size of a variant that takes every size.
_ANY_SIZE = "any"


@dataclass(frozen=True, slots=True)
class TensorCard:
    """A tensor of a model: value = (quantised - zero_point) * scale.

    Attributes:
        shape: as the file has it; batch, height, width, channels. Height and width may be changed when
            the model is opened.
        dtype: NumPy's name of it.
        layout: "rggb" (planes R, Gr, Gb, B of each 2x2 cell), "rggb-noise" (the same, then the noise of each),
            "planes12" (RGB of the four pixels of each cell: plane = (2 * y + x) * 3 + colour), "residual12" (the same
            planes: what `kernels.residual` adds to a demosaicing of the input), "residual24" (that in fine and in
            coarse steps) or "rgb" (the picture itself, which `edge-isp export` makes for other programs); on cells of
            4x4 pixels "rggb4x4-noise" and "residual48", see `kernels.cells`; of a detector's outputs "box",
            "objectness" and "class" (raw logits, see `kernels.detect`).
        curve: of the input: what linear light goes through before it is quantised ("sqrt").
        noise_factor: of the input: its noise planes hold the noise's standard deviation behind the curve, times this.
        stride: of a detector's output: the number of pixels of the mosaic from one of its cells to the next.
    """

    shape: tuple[int, int, int, int]
    dtype: str
    scale: float
    zero_point: int
    layout: str
    curve: str = ""
    noise_factor: float = 0.0
    stride: int = 0


@dataclass(frozen=True, slots=True)
class Variant:
    """The same model, compiled for one kind of NPU and one size of frames: a file beside the card.

    Attributes:
        npu: name of the NPU that it was compiled for ("ethos-u65-256").
        size: (width, height) in pixels of the frames, or of the mosaic that a detector sees; None where the file takes
            every size.
        path: of the file.
        sha256: of the file, hexadecimal.
        model_sha256: of the model's file that it was compiled of; "" where the card does not say.
    """

    npu: str
    size: tuple[int, int] | None
    path: Path
    sha256: str
    model_sha256: str = ""

    @property
    def size_name(self) -> str:
        """The size as cards and messages have it: "1280x720" or "any"."""
        return _ANY_SIZE if self.size is None else f"{self.size[0]}x{self.size[1]}"


@dataclass(frozen=True, slots=True)
class DetectionAgreement:
    """How far a detector's outputs on an NPU may be from the CPU's where it is most certain of objects.

    Elsewhere most logits are at the end of their range, which hides a fault as well as rounding. There each is the
    median difference in either direction, in steps of the output's quantisation: correct arithmetics are off in both
    directions, and a fault in one.

    Attributes:
        box_lsb: of each of the four box logits.
        objectness_lsb: of objectness.
        class_lsb: of the logit of the best class.
    """

    box_lsb: float = 3.5
    objectness_lsb: float = 10.0
    class_lsb: float = 7.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far an NPU's outputs may be from the CPU's, in steps of their quantisation.

    Attributes:
        rms_lsb: root mean square difference, of each output or, as one number, of all.
        mean_lsb: mean difference in either direction, likewise; where the card does not say, as `rms_lsb`, which it
            never exceeds.
    """

    rms_lsb: tuple[float, ...] = (2.0,)
    mean_lsb: tuple[float, ...] = (2.0,)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model, as its card describes it.

    Attributes:
        path: of the model's file.
        name: of the model ("rfdcsanet-s-generic").
        task: "isp" or "detector".
        sensor: whose RAW it was trained on, or "generic".
        colour: of an "isp": "end-to-end" (the output is the picture, of that sensor's colours) or "calibrated" (the
            sensor's colour matrix follows); else empty.
        sha256: of the file, hexadecimal.
        licence: SPDX identifier of the weights.
        input: the only input: shape, dtype, scale, zero point, curve.
        outputs: in the file's order.
        classes: of a "detector": their names, in the order of its class logits.
        document: the whole card, for what else it says (training, quality).
        agreement: how far an NPU's outputs may be from the CPU's.
        detection_agreement: of a "detector": how far an NPU may be off where objects are.
        variants: compiled for NPUs, each for one size of frames.
        receptive_field_radius: rows and columns of the input around an output that it depends on; None where it
            depends on the whole input, or where the card does not say.
        input_multiple: what the rows and columns of the input are a multiple of; tiles begin at one.
    """

    path: Path
    name: str
    task: str
    sensor: str
    colour: str
    sha256: str
    licence: str
    input: TensorCard
    outputs: tuple[TensorCard, ...]
    classes: tuple[str, ...]
    document: Mapping[str, Any]
    agreement: Agreement = Agreement()
    detection_agreement: DetectionAgreement = DetectionAgreement()
    variants: tuple[Variant, ...] = ()
    receptive_field_radius: int | None = None
    input_multiple: int = 1

    @property
    def cell(self) -> int:
        """Side in pixels of the cells of the input: each of its rows and columns is one of them."""
        return 4 if self.input.layout == "rggb4x4-noise" else 2

    def input_size(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of an ISP model's input for frames of a size; see `kernels.layout.input_size`.

        Args:
            width: of the frame, in pixels.
            height: of the frame, in pixels.
        """
        return input_size(width, height, cell=self.cell, multiple=self.input_multiple)

    @property
    def checksums(self) -> dict[Path, str]:
        """SHA-256 of the model's file and of its variants, by path, for engines to verify what they load."""
        return {self.path: self.sha256, **{variant.path: variant.sha256 for variant in self.variants}}

    def verify_file(self) -> None:
        """Raises ModelError where the model's file is missing or is not the one that the card describes."""
        verify_file(self.path, self.sha256)

    def find_variant(self, npu: str, shape: tuple[int, ...]) -> Path | None:
        """The file that was compiled for an NPU and for inputs of a shape.

        Args:
            npu: name of the NPU.
            shape: of the input: batch, height, width, channels.

        Returns:
            The file of that size, else the one that takes every size, else None.

        Raises:
            ModelError: the file is missing, is not the one that the card describes, or was compiled of another model.
        """
        fitting = [
            v for v in self.variants if v.npu == npu and (v.size is None or self.input_size(*v.size) == shape[1:3])
        ]
        if not fitting:
            return None
        variant = min(fitting, key=lambda v: v.size is None)
        if variant.model_sha256 not in ("", self.sha256):
            raise ModelError(
                f"{variant.path}: was compiled of another model than {self.path.name}, whose SHA-256 was "
                f"{variant.model_sha256}; compile it again"
            )
        verify_file(variant.path, variant.sha256)
        return variant.path


def read_card(path: Path) -> ModelCard:
    """Reads a card; the model's file stands beside it.

    Args:
        path: of the card.

    Raises:
        ModelError: there is no such card, or it is malformed.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such file; a model needs its card, a .toml file of the same name")
    document = read_toml(path, ModelError)
    model = document.table("model", required=True)
    task = model.text("task")
    tables = document.tables("outputs") if "outputs" in document else (document.table("output", required=True),)
    if not tables:
        document.refuse("outputs", "tables, [[outputs]]", document.values["outputs"])
    return ModelCard(
        path=path.parent / _file(model),
        name=model.text("name"),
        task=task,
        sensor=model.text("sensor"),
        colour=model.text("colour") if task == "isp" else "",
        sha256=model.text("sha256"),
        licence=model.text("licence"),
        input=_tensor(document.table("input", required=True)),
        outputs=tuple(_tensor(table) for table in tables),
        classes=model.texts("classes") if task == "detector" else (),
        document=document.values,
        agreement=_agreement(document, len(tables)),
        detection_agreement=_detection_agreement(document),
        variants=_variants(path, document.table("variants")),
        receptive_field_radius=(
            model.whole("receptive_field_radius", lowest=0) if "receptive_field_radius" in model else None
        ),
        input_multiple=model.whole("input_multiple", lowest=1) if "input_multiple" in model else 1,
    )


def card_path(model: Path) -> Path:
    """Where the card of a model's file stands: NAME.onnx.toml where there is one, else NAME.toml.

    The longer name serves where files of several formats have one name, as a `.tflite` and an `.onnx` of one export do.

    Args:
        model: the path of the model's file.
    """
    own = model.with_name(f"{model.name}.toml")
    return own if own.exists() else model.with_suffix(".toml")


def _file(table: TomlTable) -> str:
    name = table.path_text("file")
    if Path(name).name != name:
        table.fail(f"the model's file must stand beside its card, found {describe(name)}")
    return name


def _variants(path: Path, table: TomlTable) -> tuple[Variant, ...]:
    found = []
    for npu in table.values:
        sizes = table.table(npu)
        for name in sizes.values:
            size = _variant_size(sizes, name)
            entry = sizes.table(name)
            found.append(
                Variant(npu, size, path.parent / _file(entry), entry.text("sha256"), entry.text("model_sha256", ""))
            )
    return tuple(found)


def _variant_size(sizes: TomlTable, name: str) -> tuple[int, int] | None:
    """Of the frames that a variant was compiled for."""
    if name == _ANY_SIZE:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", name)
    if match is None:
        sizes.fail(
            f"[{sizes.key_path(name)}] must be named by the size of its frames, such as "
            f"[{sizes.key_path('1280x720')}], or '{_ANY_SIZE}' where it takes every size"
        )
    return int(match[1]), int(match[2])


def shipped_models() -> dict[str, Path]:
    """Cards of the models that come with edge_isp, by name."""
    zoo = Path(str(resources.files("edge_isp.models"))) / "zoo"
    return {path.stem: path for path in sorted(zoo.glob("*.toml"))}


def find_model(name: str, sensor: str | None) -> ModelCard:
    """The card of a model.

    Args:
        name: of a shipped model, or of one in the user's folder (`models.folder`); or of a family ("rfdcsanet-s"),
            which stands for its member for the sensor, else for the generic one, else for the first there is (see
            `ModelCard.sensor`); or the path of a model's file or card.
        sensor: name of the sensor that frames come from, where it is known.

    A shipped model's card in the user's folder, which may have more variants, takes the shipped one's place if it is of
    the same file; one of another release is passed over with a warning.

    Raises:
        ModelError: there is no such model, its card is malformed, or the card beside it is another model's.
    """
    if name.endswith((".tflite", ".onnx", ".toml")):
        path = Path(name)
        card = read_card(path if path.suffix == ".toml" else card_path(path))
        if path.suffix != ".toml" and card.path != path:
            raise ModelError(f"{path}: the card beside it, {card_path(path).name}, describes {card.path.name}")
        return card
    shipped, local = shipped_models(), local_models()
    known = [*shipped, *(member for member in local if member not in shipped)]
    family = [member for member in known if member.startswith(f"{name}-")]
    for candidate in (name, f"{name}-{sensor}", f"{name}-generic", *family[:1]):
        if candidate in shipped:
            verify_pinned(shipped[candidate])  # the card has the SHA-256 of the model's file
            return _with_local_variants(read_card(shipped[candidate]), local.get(candidate))
        if candidate in local:
            return read_card(local[candidate])
    families = {member.rpartition("-")[0] for member in known}
    raise ModelError(
        f"no model '{shortened(name)}'; there are: {', '.join(known) or 'none'}; a model of your own is given by "
        f"the path of its .tflite or .onnx or of its card{did_you_mean(name, [*known, *families])}"
    )


def _with_local_variants(shipped: ModelCard, local: Path | None) -> ModelCard:
    """The card of the same model in the user's folder; the shipped one where that folder has none."""
    if local is None:
        return shipped
    card = read_card(local)
    if card.sha256 != shipped.sha256:
        _log.warning("%s: passed over: it is of another release of '%s'; compile it again", local, shipped.name)
        return shipped
    return card


def verify_pinned(path: Path) -> None:
    """Refuses a file of a shipped model that is not the one that this version of edge_isp was released with.

    Args:
        path: of a shipped model or its card.

    Raises:
        ModelError: the file is missing, or its content is another.
    """
    found = hashlib.sha256(read_file(path, ModelError, LARGEST_MODEL_BYTES)).hexdigest()
    expected = SHA256.get(path.name, "none")
    if found != expected:
        raise ModelError(
            f"{path}: is not the file that edge_isp was released with: expected SHA-256 {expected}, found {found}; "
            "install edge_isp again"
        )


def _agreement(document: TomlTable, outputs: int) -> Agreement:
    table = document.table("agreement")
    if "rms_lsb" not in table:
        return Agreement()
    rms_lsb = _limits(table, "rms_lsb", outputs)
    return Agreement(rms_lsb, _limits(table, "mean_lsb", outputs) if "mean_lsb" in table else rms_lsb)


def _limits(table: TomlTable, key: str, outputs: int) -> tuple[float, ...]:
    """A positive number, or one for each output."""
    if not isinstance(table.value(key), list):
        return (table.positive(key),) * outputs
    values = table.numbers(key, outputs)
    if min(values) <= 0:
        table.refuse(key, "positive numbers", list(values))
    return values


def _detection_agreement(document: TomlTable) -> DetectionAgreement:
    agreement = document.table("agreement")
    if "detections" not in agreement:
        return DetectionAgreement()
    table = agreement.table("detections")
    keys = ("box_lsb", "objectness_lsb", "class_lsb")
    table.check_keys(keys, required=keys)
    return DetectionAgreement(*(table.positive(key) for key in keys))


def verify_file(path: Path, sha256: str) -> None:
    """Refuses a file that is not the one that a card describes.

    Args:
        path: of the file.
        sha256: that the card has, hexadecimal.

    Raises:
        ModelError: the file is missing, or its content is another.
    """
    found = hashlib.sha256(read_file(path, ModelError, LARGEST_MODEL_BYTES)).hexdigest()
    if found != sha256:
        raise ModelError(f"{path}: is not the model that its card describes: expected SHA-256 {sha256}, found {found}")


def _tensor(table: TomlTable) -> TensorCard:
    shape = table.value("shape")
    if not isinstance(shape, list) or len(shape) != 4 or not all(type(n) is int and 0 < n < 1 << 31 for n in shape):
        table.refuse("shape", "four positive whole numbers", shape)
    return TensorCard(
        shape=tuple(shape),
        dtype=table.text("dtype"),
        scale=table.positive("scale"),
        zero_point=table.whole("zero_point"),
        layout=table.text("layout"),
        curve=table.text("curve", ""),
        noise_factor=table.number("noise_factor", 0.0),
        stride=table.whole("stride", 0),
    )
