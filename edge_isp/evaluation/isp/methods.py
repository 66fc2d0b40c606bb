"""The methods of a network from RAW to a picture: as it runs on the board, and as PyTorch has it at each stage before.

Multi-branch in float, merged in float, quantised after training, and trained on as integers: what each stage costs is
the difference between two of them.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_isp.calibration.simulation import SensorModel
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.errors import ModelError
from edge_isp.evaluation.exposures import Develop, Method, SimulatedExposure
from edge_isp.kernels.layout import flips_to_rggb
from edge_isp.models.card import find_model
from edge_isp.tasks.isp import IspTask
from edge_isp.training.graph import Graph, trace
from edge_isp.training.isp.architectures import ARCHITECTURES
from edge_isp.training.isp.colour import END_TO_END, Colour
from edge_isp.training.isp.run import REDUCTIONS, post_training_quantised
from edge_isp.training.networks.ecb import ECB, merge
from edge_isp.training.quantisation.arithmetic import Integers, load_quantised
from edge_isp.training.simulation import (
    Capture,
    encode_codes,
    find_photos,
    load_photo,
    noise_planes,
    sensors_of_generic_weights,
)

_SHA256_DIGITS = 12


def model_method(model: str) -> Method:
    """A model through the kernels and the engine that run on the board; see `models.card.find_model` for its name."""

    def made_with(sensor: SensorModel, capture: Capture) -> str:
        card = find_model(model, sensor.profile.name)
        return f"{card.name} {card.sha256[:_SHA256_DIGITS]}"

    @contextmanager
    def opened(sensor: SensorModel) -> Iterator[Develop]:
        card = find_model(model, sensor.profile.name)
        card.verify_file()
        task = IspTask(card, profile=sensor.profile)
        with LiteRtEngine(card.path) as engine:
            task.verify(engine.inputs, engine.outputs)

            def develop(shot: SimulatedExposure) -> NDArray[np.uint8]:
                frame = shot.frame()
                tensor = np.empty(task.input_shape(frame.format), np.int8)
                engine.resize(tensor.shape)
                task.encode(frame, tensor)
                return task.decode(engine.run([tensor]), frame, tensor).rgb

            yield develop

    name = Path(model).stem if model.endswith((".tflite", ".toml")) else model
    return Method(f"{name}, int8", made_with, opened)


def weights_methods(path: Path, network: str, photos: Path | None) -> list[Method]:
    """The methods of weights that `edge-isp train isp` wrote, in PyTorch.

    Of a `-float.pt`: "float", every ECB run by its branches; "merged", as plain convolutions; and "ptq", quantised
    after training on the photographs, if there are any. Of a `-int8.pt`: "qat", the integers that the model was made of
    (of quantisation-aware training, unless quantisation after training was the better).

    Args:
        network: name of its architecture.
        photos: folder of training photographs.

    Raises:
        ModelError: there is no such network, or the weights are not its own.
    """
    if network not in ARCHITECTURES:
        raise ModelError(f"no network '{network}'; there are {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[network]
    colour, empty = architecture.colour, architecture.build().eval()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:_SHA256_DIGITS]

    def way(stage: str, prepare: Callable[[SensorModel], Callable[[Tensor], Tensor]]) -> Method:
        @contextmanager
        def opened(sensor: SensorModel) -> Iterator[Develop]:
            yield _development(prepare(sensor), colour)

        name = path.stem.removesuffix("-float").removesuffix("-int8")
        return Method(f"{name}, {stage}", lambda sensor, capture: f"{path.name} {digest}", opened)

    state = _read(path)
    if "tensors" in state:
        graph = trace(merge(empty))
        _verify_quantised(path, network, state, graph)
        quantised = load_quantised(path, graph)
        return [way("qat", lambda sensor: Integers(quantised))]

    try:
        empty.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{path}: expected weights of the network '{network}', found others: {error}") from error
    methods = [
        way("float", lambda sensor: in_branches(empty)),
        way("merged", lambda sensor: merge(empty)),
    ]
    if photos is not None:
        taken = find_photos(photos)

        @cache
        def loaded() -> list[NDArray[np.uint8]]:
            return [load_photo(photo, reduce) for photo in taken for reduce in REDUCTIONS]

        def quantise(sensor: SensorModel) -> Callable[[Tensor], Tensor]:
            # Colours that are learnt are of one sensor.
            sensors = [sensor] if colour is END_TO_END else sensors_of_generic_weights(seed=0)
            return Integers(post_training_quantised(empty, loaded(), sensors, colour))

        methods.append(way("ptq", quantise))
    return methods


class _Branches(nn.Module):
    """An ECB by its explicit branches."""

    def __init__(self, block: ECB) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block.branches(x)


def in_branches(network: nn.Module) -> nn.Module:
    """A copy of a network in which every ECB runs its branches one by one: what training defines."""
    copied = copy.deepcopy(network)
    for name, module in list(copied.named_modules()):
        if isinstance(module, ECB):
            parent, _, attribute = name.rpartition(".")
            setattr(copied.get_submodule(parent), attribute, _Branches(module))
    return copied


def network_inputs(shot: SimulatedExposure) -> NDArray[np.float32]:
    """The network's input of an exposure, (8, height/2, width/2): planes R, Gr, Gb, B, then the noise of each.

    Rounded as the run time's int8 is; mirrored to RGGB as the run time does it.
    """
    profile, capture = shot.sensor.profile, shot.capture
    gains = profile.normalised_gains(capture.colour_temperature_k)
    planes = encode_codes(_mirrored(shot.codes, profile.cfa), profile, gains)
    noise = np.broadcast_to(noise_planes(shot.sensor, capture, gains)[:, None, None], planes.shape)
    return np.concatenate([planes, noise])


def _development(run: Callable[[Tensor], Tensor], colour: Colour) -> Develop:
    def develop(shot: SimulatedExposure) -> NDArray[np.uint8]:
        profile = shot.sensor.profile
        inputs = torch.from_numpy(network_inputs(shot))[None]
        matrix = torch.from_numpy(profile.colour_matrix(shot.capture.colour_temperature_k).astype(np.float32))[None]
        with torch.inference_mode():
            rgb = colour.render(run(inputs[:, : colour.input_planes]), inputs, matrix)[0]
        rounded = torch.round(rgb.clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0).numpy()
        return _mirrored(rounded, profile.cfa)

    return develop


def _mirrored(image: NDArray[Any], cfa: str) -> NDArray[Any]:
    """A mosaic to RGGB, or the picture of the mirrored mosaic back."""
    flips = flips_to_rggb(cfa)
    image = image[::-1] if flips.vertical else image
    return np.ascontiguousarray(image[:, ::-1] if flips.horizontal else image)


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path}: expected weights that 'edge-isp train isp' wrote: {error}") from error
    if not isinstance(state, dict):
        raise ModelError(f"{path}: expected weights that 'edge-isp train isp' wrote, found a {type(state).__name__}")
    return state


def _verify_quantised(path: Path, network: str, state: dict[str, Any], graph: Graph) -> None:
    expected = {node.name: node.weight.shape for node in graph.nodes if node.weight is not None}
    found = {name: weight.shape for name, weight in state["weights"].items()}
    if found != expected:
        differing = sorted(name for name, _ in expected.items() ^ found.items())
        raise ModelError(
            f"{path}: expected weights of the network '{network}', found others: '{differing[0]}' differs; "
            "name their own network with --network"
        )
