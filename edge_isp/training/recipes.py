"""The networks that `edge-isp train isp` knows by name: how each is built and how it colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from edge_isp.training.colour import CALIBRATED, END_TO_END, Colour
from edge_isp.training.networks.calibrated import CalibratedRFDCSANet, PlainNetwork
from edge_isp.training.networks.rfdcsanet import RFDCSANet


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network before it is trained."""

    build: Callable[[], nn.Module]
    colour: Colour


RECIPES = {
    "rfdcsanet-s": Recipe(lambda: CalibratedRFDCSANet(blocks=2), CALIBRATED),
    "rfdcsanet-m": Recipe(lambda: CalibratedRFDCSANet(blocks=5), CALIBRATED),
    # The published structure, whole: attention, and the picture as its output.
    "rfdcsanet-published": Recipe(RFDCSANet, END_TO_END),
    # What RFDCSANet is measured against.
    "plain": Recipe(PlainNetwork, CALIBRATED),
    "plain-without-ecb": Recipe(lambda: PlainNetwork(ecb=False), CALIBRATED),
}
