"""Makes the pictures of docs/colours.md in docs/images: each step from RAW to a picture, off and on.

    python scripts/make_colour_pictures.py

The scene is the recording that ships in the package (CC0, see NOTICE). An IMX219 with its lens shading, stuck pixels
and noise is simulated in front of it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import edge_isp
from edge_isp.calibration.light import srgb_decode
from edge_isp.calibration.profile import Defect, load_profile
from edge_isp.calibration.simulation import Imperfections, SensorModel
from edge_isp.corrections import Origins
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.layout import Flips
from edge_isp.kernels.pack import pack
from edge_isp.metering.meter import complete_frame
from edge_isp.models.card import find_model
from edge_isp.sensor_window import SensorWindow
from edge_isp.tasks.isp import IspTask

Rgb = NDArray[np.uint8]

IMAGES = Path(__file__).parent.parent / "docs" / "images"
KELVIN, GAIN, HIGH_GAIN = 4000.0, 2.0, 16.0
STUCK_SHARE = 1e-3
# Left, top, right and bottom of what is shown at the sensor's own pixels, twice as large; the rest is shown smaller.
DETAIL = (300, 190, 468, 306)
WHOLE = load_profile("imx219")
SIZE = WHOLE.size or (0, 0)
CARD = find_model("rfdcsanet-s", WHOLE.name)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    scene = srgb_decode(edge_isp.develop(edge_isp.demo_recording(), tone="srgb") / 255).astype(np.float32)
    plain, noisy = frame_of(scene), frame_of(scene, gain=HIGH_GAIN)
    dark, turned = frame_of(scene, exposure=0.2), frame_of(np.rot90(scene).copy())
    ungraded = replace(WHOLE, colour_matrices=())
    steps: dict[str, tuple[Rgb, Rgb]] = {
        "black-level": (picture(replace(plain, black_level=(0.0,) * 4)), picture(plain)),
        "defects": (picture(plain, correct_defects=False), picture(plain)),
        "white-balance": (picture(replace(plain, colour_gains=(1.0, 1.0))), picture(plain)),
        "brightness": (picture(dark), picture(complete_frame(dark, auto_brightness=True))),
        "lens-shading": (picture(plain, correct_shading=False), picture(plain)),
        "noise": (picture(replace(noisy, analogue_gain=1.0)), picture(noisy)),
        "colour-matrix": (picture(plain, profile=ungraded), picture(plain)),
        "tone": (picture(plain, tone="srgb"), picture(plain)),
        "orientation": (picture(turned), picture(replace(turned, orientation=6))),
    }
    for name, (off, on) in steps.items():
        both = [shown(name, each) for each in (off, on)]
        height = max(len(each) for each in both)
        gap = np.full((height, 8, 3), 255, np.uint8)
        padded = [np.pad(each, ((0, height - len(each)), (0, 0), (0, 0)), constant_values=255) for each in both]
        path = IMAGES / f"colours-{name}.jpg"
        Image.fromarray(np.concatenate([padded[0], gap, padded[1]], axis=1)).save(path, quality=80)


def frame_of(scene: NDArray[np.float32], *, gain: float = GAIN, exposure: float = 1.0) -> RawFrame:
    """What the sensor sends of a scene, with all that is imperfect about sensor and lens."""
    height, width, _ = scene.shape
    window = SensorWindow(0, 0, *SIZE, SIZE, Flips(vertical=False, horizontal=False))
    rng = np.random.default_rng(1)
    count = round(STUCK_SHARE * width * height)
    places = zip(rng.integers(0, window.width, count), rng.integers(0, window.height, count), strict=True)
    stuck = tuple(Defect(int(x), int(y), 0.0, float(rng.choice([0, 0.6, 1]))) for x, y in places)
    codes = SensorModel(replace(WHOLE, defects=stuck)).codes(
        scene,
        rng,
        colour_temperature_k=KELVIN,
        exposure=exposure,
        analogue_gain=gain,
        imperfections=Imperfections(window=window),
    )
    layout = RawFormat(width, height, Cfa(WHOLE.cfa), WHOLE.bit_depth, Packing.U16)
    return RawFrame(
        data=pack(codes, packing=layout.packing, bit_depth=layout.bit_depth),
        format=layout,
        source="simulated",
        sequence=0,
        timestamp_ns=0,
        black_level=WHOLE.black_level_at(gain),
        white_level=WHOLE.white_level,
        sensor=WHOLE.name,
        analogue_gain=gain,
        colour_gains=WHOLE.colour_gains(KELVIN),
        colour_temperature_k=KELVIN,
        window=window,
        origins=Origins("simulation"),
    )


def picture(frame: RawFrame, **options: Any) -> Rgb:
    """The frame's picture by the network, with every correction that is not switched off."""
    task = IspTask(CARD, **options)
    tensor = np.empty(task.input_shape(frame.format), np.int8)
    with LiteRtEngine(CARD.path) as engine:
        engine.resize(tensor.shape)
        task.encode(frame, tensor)
        return task.decode(engine.run([tensor]), frame, tensor).rgb


def shown(step: str, rgb: Rgb) -> Rgb:
    """The part and size in which a step is seen best."""
    if step in ("defects", "noise"):
        left, top, right, bottom = DETAIL
        return np.repeat(np.repeat(rgb[top:bottom, left:right], 2, axis=0), 2, axis=1)
    image = Image.fromarray(rgb)
    return np.asarray(image.resize((image.width * 2 // 5, image.height * 2 // 5), Image.Resampling.LANCZOS))


if __name__ == "__main__":
    main()
