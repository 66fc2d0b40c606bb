"""The networks that `edge-isp train isp` knows by name: how each is built and how it colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from edge_isp.training.isp.colour import CALIBRATED, END_TO_END, WITHOUT_ANCHOR, Colour
from edge_isp.training.networks.calibrated import CalibratedRFDCSANet, PlainConvolution, PlainNetwork
from edge_isp.training.networks.rfdcsanet import RFDCSANet


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network before it is trained."""

    build: Callable[[], nn.Module]
    colour: Colour


_NOISE_UNTOLD = replace(CALIBRATED, name="calibrated-noise-untold", input_layout="rggb", input_planes=4)

ARCHITECTURES = {
    "rfdcsanet-s": Architecture(lambda: CalibratedRFDCSANet(blocks=2), CALIBRATED),
    "rfdcsanet-m": Architecture(lambda: CalibratedRFDCSANet(blocks=5), CALIBRATED),
    # The published structure, whole: attention, and the picture as its output.
    "rfdcsanet-published": Architecture(RFDCSANet, END_TO_END),
    # What RFDCSANet is measured against; the second takes as long as rfdcsanet-s.
    "plain-24x4": Architecture(lambda: PlainNetwork(24, 4), CALIBRATED),
    "plain-32x7": Architecture(lambda: PlainNetwork(32, 7), CALIBRATED),
    # rfdcsanet-s with one of its ideas taken away, or with the attention that it does without.
    "s-without-ecb": Architecture(lambda: CalibratedRFDCSANet(blocks=2, convolution=PlainConvolution), CALIBRATED),
    "s-without-noise": Architecture(lambda: CalibratedRFDCSANet(blocks=2, inputs=4), _NOISE_UNTOLD),
    "s-without-anchor": Architecture(lambda: CalibratedRFDCSANet(blocks=2), WITHOUT_ANCHOR),
    "s-with-csa": Architecture(lambda: CalibratedRFDCSANet(blocks=2, attention=True), CALIBRATED),
}
