"""What the shipped calibrated models promise: steady pictures, exact tiles, right colours in every light and corner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp.calibration.light import srgb_decode
from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import Imperfections, SensorModel
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.models.card import read_card, shipped_models
from edge_isp.sensor_window import SensorWindow
from edge_isp.tasks.isp import IspTask

CALIBRATED = [name for name, path in shipped_models().items() if read_card(path).colour == "calibrated"]
SENSORS = ("imx219", "imx477", "imx708", "ov5647")


@dataclass(frozen=True)
class Developer:
    """A model with its task: frames become pictures."""

    task: IspTask
    engine: LiteRtEngine

    def __call__(self, frame: RawFrame) -> NDArray[np.uint8]:
        tensor = self.encoded(frame)
        return self.task.decode(self.run(tensor), frame, tensor).rgb

    def encoded(self, frame: RawFrame) -> NDArray[np.int8]:
        tensor = np.empty(self.task.input_shape(frame.format), np.int8)
        self.task.encode(frame, tensor)
        return tensor

    def run(self, tensor: NDArray[np.int8]) -> list[NDArray[np.int8]]:
        self.engine.resize(tensor.shape)
        return self.engine.run([tensor])


def developer(name: str) -> Developer:
    card = read_card(shipped_models()[name])
    return Developer(IspTask(card, tone="srgb"), LiteRtEngine(card.path))


@pytest.fixture(params=CALIBRATED)
def develop(request: pytest.FixtureRequest) -> Iterator[Developer]:
    made = developer(request.param)
    yield made
    made.engine.close()


def exposed(
    picture: NDArray[np.uint8],
    sensor: str = "imx219",
    *,
    seed: int = 0,
    gain: float = 1.0,
    kelvin: float = 5000.0,
    imperfections: Imperfections | None = None,
) -> RawFrame:
    """A frame of a sensor that looks at a picture (height, width, 3)."""
    profile = load_profile(sensor)
    codes = SensorModel(profile).codes(
        srgb_decode(picture.astype(np.float32) / np.float32(255)).astype(np.float32),
        np.random.default_rng(seed),
        colour_temperature_k=kelvin,
        analogue_gain=gain,
        imperfections=imperfections,
    )
    height, width = codes.shape
    return RawFrame(
        data=pack(codes, packing=Packing.U16, bit_depth=profile.bit_depth),
        format=RawFormat(width, height, Cfa(profile.cfa), profile.bit_depth, Packing.U16),
        source="simulated",
        sequence=0,
        timestamp_ns=0,
        black_level=profile.black_level,
        white_level=profile.white_level,
        sensor=sensor,
        analogue_gain=gain,
        colour_gains=profile.colour_gains(kelvin),
        colour_temperature_k=kelvin,
        window=SensorWindow(0, 0, 3280, 2464) if imperfections else None,
        lens_shading=imperfections is not None,
    )


def patches(side: int = 32) -> NDArray[np.uint8]:
    """Colours of medium saturation and greys, as 4 x 6 flat patches."""
    rng = np.random.default_rng(5)
    colours = rng.integers(60, 200, (4, 6, 3), dtype=np.uint8)
    colours[-1] = np.array([40, 80, 120, 160, 200, 230], np.uint8)[:, None]
    return colours.repeat(side, 0).repeat(side, 1)


def means(picture: NDArray[np.uint8], side: int = 32, margin: int = 8) -> NDArray[np.float64]:
    """Mean colour of each patch without its border: (4, 6, 3)."""
    rows = picture.reshape(4, side, 6, side, 3)[:, margin:-margin, :, margin:-margin]
    mean: NDArray[np.float64] = rows.astype(np.float64).mean((1, 3))
    return mean


def test_there_are_calibrated_models() -> None:
    assert {"rfdcsanet-t-generic", "rfdcsanet-s-generic", "rfdcsanet-m-generic"} <= set(CALIBRATED)


def test_a_static_scene_does_not_flicker(develop: Developer) -> None:
    # Large enough that the photons' own noise stays below the bound: it makes 0.6 of a patch half as wide.
    scene = np.full((448, 448, 3), (120, 100, 140), np.uint8)
    frames = [develop(exposed(scene, seed=seed, gain=4.0))[32:-32, 32:-32].mean((0, 1)) for seed in range(60)]
    assert np.ptp(frames, axis=0).max() < 0.5


def test_tiles_give_the_whole_picture_exactly(develop: Developer) -> None:
    card = develop.task.card
    radius, multiple = card.receptive_field_radius, card.input_multiple
    assert radius is not None
    receptive_field_radius = -(-radius // multiple) * multiple  # tiles begin at a multiple
    tensor = develop.encoded(exposed(np.tile(patches(), (3, 2, 1)), gain=8.0))
    (whole,) = develop.run(tensor)
    _, height, width, _ = whole.shape
    side = 48
    tiled = np.zeros_like(whole)
    for top in range(0, height, side):
        for left in range(0, width, side):
            first_row, first_column = max(top - receptive_field_radius, 0), max(left - receptive_field_radius, 0)
            window = tensor[
                :, first_row : top + side + receptive_field_radius, first_column : left + side + receptive_field_radius
            ]
            (part,) = develop.run(np.ascontiguousarray(window))
            inner = part[:, top - first_row :, left - first_column :][:, :side, :side]
            tiled[:, top : top + side, left : left + side] = inner
    np.testing.assert_array_equal(tiled, whole)
    # Half of it is too little.
    half = radius // 2 // multiple * multiple
    (part,) = develop.run(np.ascontiguousarray(tensor[:, side - half :, side - half :]))
    assert not np.array_equal(part[:, half:, half:], whole[:, side:, side:])


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("kelvin", [2900.0, 4000.0, 6000.0])
def test_colours_are_right_in_every_light(develop: Developer, sensor: str, kelvin: float) -> None:
    if (own := develop.task.card.sensor) not in ("generic", sensor):
        pytest.skip(f"its weights are of {own}")
    scene = patches()
    found = means(develop(exposed(scene, sensor, kelvin=kelvin)))
    difference = np.abs(found - means(scene))
    assert difference.mean() < 1.5
    assert difference.max() < 6


def test_shaded_corners_keep_colour_and_brightness() -> None:
    develop = developer("rfdcsanet-s-generic")
    grey = np.full((480, 640, 3), 140, np.uint8)
    picture = develop(exposed(grey, imperfections=Imperfections(), gain=2.0)).astype(np.float64)
    develop.engine.close()
    centre = picture[200:280, 280:360].mean((0, 1))
    np.testing.assert_allclose(centre, 140, atol=1.5)
    for corner in (picture[:40, :40], picture[:40, -40:], picture[-40:, :40], picture[-40:, -40:]):
        np.testing.assert_allclose(corner.mean((0, 1)), centre, atol=2)
    dark = SensorModel(load_profile("imx219"))
    assert dark.profile.shading is not None
    assert dark.profile.shading.gains(5000.0).max() > 2  # without the correction a corner has half the light
