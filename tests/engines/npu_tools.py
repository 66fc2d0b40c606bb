"""What tests of engines share: models, inputs, and the name under which the tests' NPU is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.delegates import DelegateSpec
from edge_isp.models.card import read_card, shipped_models

SMALL = read_card(shipped_models()["rfdcsanet-m-generic"])  # on cells of 2x2 pixels
MIXED = read_card(shipped_models()["rfdcsanet-published-imx219"])  # seven operators

# What the entry point that the fixture `known_npu` makes leads to.
KNOWN: DelegateSpec | None = None


@dataclass(frozen=True)
class Runtime:
    """One of the two runtimes of TensorFlow Lite."""

    engine: str
    python: str | None


def codes(height: int = 12, width: int = 16, channels: int = 8, seed: int = 0) -> NDArray[np.int8]:
    """A smooth input with some noise, as a network would see it."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    noise = np.random.default_rng(seed).normal(0, 3, (height, width, channels))
    values = 90 * np.sin(x / 5 + c) * np.cos(y / 7) + noise
    made: NDArray[np.int8] = np.clip(np.rint(values), -128, 127).astype(np.int8)[None]
    return made
