"""Weights from RAW to a picture, in PyTorch: at each stage before they run on the board.

Multi-branch in float, merged in float, quantised after training, and trained on as integers: what each stage costs is
the difference between two of them.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_isp.calibration.simulation import SensorModel
from edge_isp.errors import ModelError
from edge_isp.evaluation.exposures import SimulatedExposure
from edge_isp.evaluation.isp.methods import Develop, Rgb
from edge_isp.evaluation.store import SHA256_DIGITS, Method
from edge_isp.kernels.layout import flips_to_rggb
from edge_isp.training.graph import Graph, trace
from edge_isp.training.isp import quantise
from edge_isp.training.isp.architectures import architecture_of
from edge_isp.training.isp.colour import END_TO_END, Colour
from edge_isp.training.networks.ecb import ECB, merge
from edge_isp.training.quantisation.arithmetic import Integers, load_quantised
from edge_isp.training.quantisation.rounding import round_weights
from edge_isp.training.simulation.samples import (
    encode_codes,
    find_photos,
    load_training_photos,
    noise_planes,
    sensors_of_generic_weights,
)
from edge_isp.training.weights import read_state


def weights_methods(path: Path, network: str, photos: Path | None) -> list[Method[Rgb]]:
    """Methods of weights that `edge-isp train isp` wrote, in PyTorch.

    Of a `-float.pt`: "float", every ECB run by its branches; "merged", as plain convolutions; and "ptq", quantised
    after training on the photographs, if there are any. Of a `-int8.pt`: "qat", the integers that the model was made of
    (of quantisation-aware training, unless quantisation after training was the better).

    Args:
        path: of the file.
        network: name of its architecture.
        photos: folder of training photographs, to quantise float weights on; None leaves that out.

    Raises:
        ModelError: there is no such network, or the weights are not its own.
    """
    architecture = architecture_of(network)
    colour, empty = architecture.colour, architecture.build().eval()
    graph = trace(merge(empty))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:SHA256_DIGITS]

    def method(stage: str, prepare: Callable[[SensorModel], Callable[[Tensor], Tensor]]) -> Method[Rgb]:
        @contextmanager
        def opened(sensor: SensorModel) -> Iterator[Develop]:
            yield _development(prepare(sensor), colour, graph.input_multiple)

        name = path.stem.removesuffix("-float").removesuffix("-int8")
        return Method(f"{name}, {stage}", lambda sensor, capture: f"{path.name} {digest}", opened)

    state = read_state(path)
    if "tensors" in state:
        _verify_quantised(path, network, state, graph)
        quantised = load_quantised(path, graph)
        return [method("qat", lambda sensor: Integers(quantised))]

    try:
        empty.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{path}: expected weights of the network '{network}', found others: {error}") from error
    methods = [
        method("float", lambda sensor: in_branches(empty)),
        method("merged", lambda sensor: merge(empty)),
    ]
    if photos is not None:
        taken = find_photos(photos)

        @cache
        def loaded() -> list[NDArray[np.uint8]]:
            return load_training_photos(taken)

        def quantised_on(sensors: list[SensorModel]) -> Callable[[Tensor], Tensor]:
            samples = quantise.calibration_samples(loaded(), sensors)
            inputs = quantise.network_inputs(chain(*samples), colour)
            return Integers(round_weights(quantise.post_training_quantised(empty, samples, colour, {}), inputs))

        @cache
        def generic() -> Callable[[Tensor], Tensor]:
            return quantised_on(sensors_of_generic_weights(seed=0))

        # Colours that are learnt are of one sensor.
        methods.append(method("ptq", lambda sensor: quantised_on([sensor]) if colour is END_TO_END else generic()))
    return methods


class _Branches(nn.Module):
    """An ECB by its explicit branches."""

    def __init__(self, block: ECB) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block.branches(x)


def in_branches(network: nn.Module) -> nn.Module:
    """A copy of a network in which every ECB runs its branches one by one: what training defines.

    Args:
        network: with its ECBs.
    """
    copied = copy.deepcopy(network)
    for name, module in list(copied.named_modules()):
        if isinstance(module, ECB):
            parent, _, attribute = name.rpartition(".")
            setattr(copied.get_submodule(parent), attribute, _Branches(module))
    return copied


def network_inputs(exposure: SimulatedExposure) -> NDArray[np.float32]:
    """The network's input of an exposure, (8, height/2, width/2): planes R, Gr, Gb, B, then the noise of each.

    Rounded as the runtime's int8 is; mirrored to RGGB as the runtime does it.

    Args:
        exposure: of any colour order.
    """
    profile, capture = exposure.sensor.profile, exposure.capture
    gains = profile.normalised_gains(capture.colour_temperature_k)
    planes = encode_codes(_mirrored(exposure.codes, profile.cfa), profile, gains)
    noise = np.broadcast_to(noise_planes(exposure.sensor, capture, gains)[:, None, None], planes.shape)
    return np.concatenate([planes, noise])


def _development(run: Callable[[Tensor], Tensor], colour: Colour, multiple: int) -> Develop:
    """Pictures of exposures of any even size, mirrored up to a multiple of the network's cells as the runtime does."""

    def develop(exposure: SimulatedExposure) -> Rgb:
        profile = exposure.sensor.profile
        planes = network_inputs(exposure)
        height, width = planes.shape[1:]
        side = colour.cell // 2 * multiple
        margins = ((0, 0), (0, -height % side), (0, -width % side))
        inputs = torch.from_numpy(np.pad(planes, margins, mode="symmetric"))[None]
        matrix = torch.from_numpy(profile.colour_matrix(exposure.capture.colour_temperature_k).astype(np.float32))[None]
        with torch.inference_mode():
            rgb = colour.render(run(colour.network_input(inputs)), inputs, matrix)[0]
        rgb = rgb[:, : 2 * height, : 2 * width]
        rounded = torch.round(rgb.clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0).numpy()
        return _mirrored(rounded, profile.cfa)

    return develop


def _mirrored(image: NDArray[Any], cfa: str) -> NDArray[Any]:
    """A mosaic to RGGB, or the picture of the mirrored mosaic back."""
    flips = flips_to_rggb(cfa)
    image = image[::-1] if flips.vertical else image
    return np.ascontiguousarray(image[:, ::-1] if flips.horizontal else image)


def _verify_quantised(path: Path, network: str, state: dict[str, Any], graph: Graph) -> None:
    expected = {node.name: node.weight.shape for node in graph.nodes if node.weight is not None}
    found = {name: weight.shape for name, weight in state["weights"].items()}
    if found != expected:
        differing = sorted(name for name, _ in expected.items() ^ found.items())
        raise ModelError(
            f"{path}: expected weights of the network '{network}', found others: '{differing[0]}' differs; "
            "name their own network with --network"
        )
