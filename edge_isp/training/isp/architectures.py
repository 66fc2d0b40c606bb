"""The networks that `edge-isp train isp` knows by name: how each is built, and how its output becomes a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from edge_isp.errors import DatasetError, ModelError
from edge_isp.training.graph import trace
from edge_isp.training.isp.colour import (
    CALIBRATED,
    CALIBRATED_4X4,
    CALIBRATED_IN_TWO,
    END_TO_END,
    WITHOUT_ANCHOR,
    Colour,
)
from edge_isp.training.networks.calibrated import (
    INPUT_PLANES_4X4,
    OUTPUT_PLANES_4X4,
    OUTPUT_PLANES_IN_TWO,
    CalibratedRFDCSANet,
    PlainConvolution,
    PlainNetwork,
)
from edge_isp.training.networks.ecb import merge
from edge_isp.training.networks.rfdcsanet import CSA, RFDCSANet
from edge_isp.training.networks.windowed_csa import WindowedCSA


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


def _on_4x4(channels: int, blocks: int) -> CalibratedRFDCSANet:
    """RFDCSANet on cells of 4x4 pixels."""
    return CalibratedRFDCSANet(channels, channels // 2, 2, blocks, inputs=INPUT_PLANES_4X4, outputs=OUTPUT_PLANES_4X4)


ARCHITECTURES = {
    "rfdcsanet-t": Architecture(lambda: _on_4x4(48, 1), CALIBRATED_4X4),
    "rfdcsanet-s": Architecture(lambda: _on_4x4(64, 2), CALIBRATED_4X4),
    "rfdcsanet-m": Architecture(lambda: CalibratedRFDCSANet(blocks=5), CALIBRATED),
    # The published structure whole, edges (ECB), distillation (RFDB) and attention (CSA), on calibrated colour.
    "rfdcsanet-csa": Architecture(
        lambda: CalibratedRFDCSANet(blocks=2, outputs=OUTPUT_PLANES_IN_TWO, attention=WindowedCSA), CALIBRATED_IN_TWO
    ),
    # The published structure, whole: attention, and the picture as its output.
    "rfdcsanet-published": Architecture(RFDCSANet, END_TO_END),
    # Baselines that RFDCSANet is compared with; the second takes as long as cells2x2.
    "plain-24x4": Architecture(lambda: PlainNetwork(24, 4), CALIBRATED),
    "plain-32x7": Architecture(lambda: PlainNetwork(32, 7), CALIBRATED),
    # On cells of 2x2 pixels, without attention: with one of the ideas taken away, or with published CSA.
    "cells2x2": Architecture(lambda: CalibratedRFDCSANet(blocks=2), CALIBRATED),
    "cells2x2-without-ecb": Architecture(
        lambda: CalibratedRFDCSANet(blocks=2, convolution=PlainConvolution), CALIBRATED
    ),
    "cells2x2-without-noise": Architecture(lambda: CalibratedRFDCSANet(blocks=2, inputs=4), _WITHOUT_NOISE),
    "cells2x2-without-anchor": Architecture(lambda: CalibratedRFDCSANet(blocks=2), WITHOUT_ANCHOR),
    "cells2x2-with-csa": Architecture(lambda: CalibratedRFDCSANet(blocks=2, attention=CSA), CALIBRATED),
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


def check_crop(name: str, network: nn.Module, crop: int) -> None:
    """Refuses crops that are not whole inputs of a network.

    Args:
        name: one of `ARCHITECTURES`.
        network: of this name.
        crop: side of the crops in pixels.

    Raises:
        DatasetError: it is not a multiple of what the network's input must be.
    """
    side = architecture_of(name).colour.cell * trace(merge(network).eval()).input_multiple
    if crop % side:
        raise DatasetError(
            f"crops for the network '{name}' must be a multiple of {side} pixels, found {crop}: give another --crop"
        )
