"""The networks that `edge-isp train isp` knows by name: how each is built, and how its output becomes a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from edge_isp.errors import ModelError
from edge_isp.training.isp.colour import CALIBRATED, END_TO_END, WITHOUT_ANCHOR, Colour
from edge_isp.training.networks.calibrated import CalibratedRFDCSANet, PlainConvolution, PlainNetwork
from edge_isp.training.networks.rfdcsanet import RFDCSANet


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network before it is trained.

    Attributes:
        build: makes it, with random weights.
        colour: how its output becomes a picture.
    """

    build: Callable[[], nn.Module]
    colour: Colour


_WITHOUT_NOISE = replace(CALIBRATED, name="calibrated-noise-untold", input_layout="rggb", input_planes=4)

ARCHITECTURES = {
    "rfdcsanet-s": Architecture(lambda: CalibratedRFDCSANet(blocks=2), CALIBRATED),
    "rfdcsanet-m": Architecture(lambda: CalibratedRFDCSANet(blocks=5), CALIBRATED),
    # The published structure, whole: attention, and the picture as its output.
    "rfdcsanet-published": Architecture(RFDCSANet, END_TO_END),
    # Baselines that RFDCSANet is compared with; the second takes as long as rfdcsanet-s.
    "plain-24x4": Architecture(lambda: PlainNetwork(24, 4), CALIBRATED),
    "plain-32x7": Architecture(lambda: PlainNetwork(32, 7), CALIBRATED),
    # rfdcsanet-s with one of its ideas taken away, or with the attention that it lacks.
    "s-without-ecb": Architecture(lambda: CalibratedRFDCSANet(blocks=2, convolution=PlainConvolution), CALIBRATED),
    "s-without-noise": Architecture(lambda: CalibratedRFDCSANet(blocks=2, inputs=4), _WITHOUT_NOISE),
    "s-without-anchor": Architecture(lambda: CalibratedRFDCSANet(blocks=2), WITHOUT_ANCHOR),
    "s-with-csa": Architecture(lambda: CalibratedRFDCSANet(blocks=2, attention=True), CALIBRATED),
}


def architecture_of(name: str) -> Architecture:
    """The architecture of a name.

    Args:
        name: one of `ARCHITECTURES`.

    Raises:
        ModelError: there is none of this name.
    """
    if name not in ARCHITECTURES:
        raise ModelError(f"no network '{name}'; there are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
