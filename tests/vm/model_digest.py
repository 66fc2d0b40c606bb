"""What the shipped ISP models make of one frame, as digests: to be the same on every processor."""

from __future__ import annotations

import hashlib

import numpy as np

from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.models.card import find_model
from edge_isp.plugins import load
from edge_isp.tasks.isp import IspTask

MODELS = ("rfdcsanet-s-generic", "rfdcsanet-m-generic", "rfdcsanet-published-imx219")


def digests(model: str) -> dict[str, str]:
    """SHA-256 of the input tensor and of the integers of the output, for a frame of random codes over a ramp."""
    layout = RawFormat(160, 96, Cfa.BGGR, 10, Packing.CSI2P)
    ramp = np.linspace(64, 900, layout.width)[None, :] * np.linspace(0.3, 1, layout.height)[:, None]
    noise = np.random.default_rng(0).integers(0, 60, (layout.height, layout.width))
    frame = RawFrame(
        data=pack((ramp + noise).astype(np.uint16), packing=layout.packing, bit_depth=layout.bit_depth),
        format=layout,
        source="digest",
        sequence=0,
        timestamp_ns=0,
        black_level=(64.0,) * 4,
        white_level=1023.0,
        sensor="imx219",
        analogue_gain=2.0,
        colour_gains=(1.75, 1.5),
        colour_temperature_k=5200.0,
    )
    card = find_model(model, None)
    task = IspTask(card)
    shape = task.input_shape(layout)
    tensor = np.zeros(shape, np.int8)
    with load("engines", "litert")(card.path, threads=2) as engine:
        engine.resize(shape)
        task.encode(frame, tensor)
        (output,) = engine.run([tensor])
    return {
        name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in (("input", tensor), ("output", output))
    }
