"""What the shipped ISP models make of one frame, as digests: to be the same on every processor."""

from __future__ import annotations

import hashlib

import numpy as np

from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.models.card import find_model
from edge_isp.plugins import load
from edge_isp.tasks.isp import IspTask

MODELS = ("rfdcsanet-s-generic", "rfdcsanet-m-generic", "rfdcsanet-published-imx219")
LAYOUT = RawFormat(160, 96, Cfa.BGGR, 10, Packing.U16)


def digests(model: str) -> dict[str, str]:
    """SHA-256 of the integers: the output for a frame, the tensor that it was, and the output for random input."""
    ramp = np.linspace(64, 900, LAYOUT.width)[None, :] * np.linspace(0.3, 1, LAYOUT.height)[:, None]
    random = np.random.default_rng(0)
    codes = (ramp + random.integers(0, 60, ramp.shape)).astype("<u2")
    frame = RawFrame(
        data=codes.view(np.uint8),
        format=LAYOUT,
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
    task = IspTask(card, tone="srgb")
    shape = task.input_shape(LAYOUT)
    tensor = np.zeros(shape, np.int8)
    with load("engines", "litert")(card.path, threads=2) as engine:
        engine.resize(shape)
        (from_noise,) = engine.run([random.integers(-128, 128, shape).astype(np.int8)])
        task.encode(frame, tensor)
        (from_frame,) = engine.run([tensor])
    arrays = {"input": tensor, "output": from_frame, "output_of_noise": from_noise}
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
