"""The forward model's imperfections, and lens shading undone while a frame is encoded."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp.calibration.profile import Defect, Noise, SensorProfile, load_profile, shipped_profiles
from edge_isp.calibration.simulation import Flicker, Imperfections, SensorModel
from edge_isp.kernels import tables
from edge_isp.kernels.layout import PLANE_COLOURS, Flips, RawLayout
from edge_isp.kernels.pack import pack
from edge_isp.kernels.shaded import encode_shaded
from edge_isp.sensor_window import SensorWindow
from tests.calibration.sensors import DEFECTS, TEMPERATURE_K, grey

HEIGHT, WIDTH = 480, 640


def quiet(profile: SensorProfile) -> SensorProfile:
    """The sensor with next to no noise."""
    return replace(profile, noise=Noise(1e-9))


def codes(profile: SensorProfile, scene: NDArray[np.float32], **circumstances: Any) -> NDArray[np.uint16]:
    settings: dict[str, Any] = {"colour_temperature_k": TEMPERATURE_K, "imperfections": Imperfections()} | circumstances
    return SensorModel(profile).codes(scene, np.random.default_rng(1), **settings)


def test_without_imperfections_nothing_has_changed() -> None:
    """Trainings resume: the ideal sensor's codes are, bit for bit, those of before there were imperfections."""
    model = SensorModel(load_profile("imx219"))
    scene = np.random.default_rng(0).random((64, 96, 3), dtype=np.float32)
    digests = [
        hashlib.sha256(
            model.codes(
                scene,
                np.random.default_rng(i),
                colour_temperature_k=3000 + 1000 * i,
                exposure=0.7,
                analogue_gain=1 + 3 * i,
                cfa=cfa,
            ).tobytes()
        ).hexdigest()[:12]
        for i, cfa in enumerate(("RGGB", "BGGR", "GRBG", "GBRG"))
    ]
    assert digests == ["9f290027fac6", "9521636bfe48", "5ac9524d637d", "909a2b581da8"]


def test_black_level_drifts_with_gain() -> None:
    profile = replace(quiet(load_profile("imx219")), shading=None, black_level_drift=(1.0, 2.0, 3.0, 4.0))
    seen = codes(profile, grey(0, 4, 4), analogue_gain=3.0)
    assert seen[:2, :2].tolist() == [[66, 68], [70, 72]]


def test_defects_show_what_they_are() -> None:
    profile = replace(quiet(load_profile("imx219")), shading=None, defects=(*DEFECTS, replace(DEFECTS[0], x=9999)))
    seen = codes(profile, grey(0.0, 64, 64)).astype(int)
    lit = codes(profile, grey(1.0, 64, 64), exposure=0.5).astype(int)
    hot, dead, stuck = DEFECTS
    assert seen[hot.y, hot.x] == pytest.approx(64 + 0.4 * 959, abs=2)
    assert lit[hot.y, hot.x] > lit[hot.y, hot.x + 2] + 300
    assert lit[dead.y, dead.x] == 64
    assert seen[stuck.y, stuck.x] == pytest.approx(1023, abs=2)


def test_pixels_of_one_specimen_answer_alike_in_every_frame() -> None:
    profile = replace(load_profile("imx219"), shading=None, noise=Noise(1e-9, pixel_response=0.02))
    first, second = (codes(profile, grey(1, 64, 64), exposure=0.5).astype(int) for _ in range(2))
    other = codes(profile, grey(1, 64, 64), exposure=0.5, imperfections=Imperfections(seed=7)).astype(int)
    assert np.abs(first - second).max() <= 1
    assert np.abs(first - other).max() > 10
    greens = first[0::2, 1::2] - 64
    assert greens.std() / greens.mean() == pytest.approx(0.02, rel=0.1)


def test_row_noise_is_anew_in_each_frame() -> None:
    profile = replace(load_profile("imx219"), shading=None, noise=Noise(1e-9, row=0.01))
    model, rng = SensorModel(profile), np.random.default_rng(3)
    frames = [
        model.codes(grey(0.0, 256, 64), rng, colour_temperature_k=5000, imperfections=Imperfections()) for _ in range(2)
    ]
    rows = [frame.mean(axis=1) for frame in frames]
    assert rows[0].std() == pytest.approx(9.59, rel=0.15)
    assert abs(float(np.corrcoef(rows[0], rows[1])[0, 1])) < 0.3
    assert np.ptp(frames[0], axis=1).max() <= 1


def test_flicker_makes_bands_that_clip_first() -> None:
    lamp = Flicker(frequency_hz=100, depth=0.5, row_time_s=1e-3 / 64, exposure_s=1e-3)
    light = lamp.light_of_rows(1280)
    assert light.shape == (1280, 1)
    assert light.max() == pytest.approx(1 + 0.5 * np.sinc(0.1), rel=1e-3)
    assert light[:640] == pytest.approx(light[640:], abs=1e-3)
    whole_periods = replace(lamp, exposure_s=2e-2).light_of_rows(640)
    assert whole_periods == pytest.approx(1, abs=1e-6)
    profile = replace(quiet(load_profile("imx219")), shading=None)
    seen = codes(profile, grey(1, 640, 8), exposure=0.8, imperfections=Imperfections(flicker=lamp))
    clipped = seen[:, 1::2].max(axis=1) == 1023
    assert 0.2 < clipped[0::2].mean() < 0.6


def dequantised(encoded: NDArray[Any]) -> NDArray[np.float64]:
    light: NDArray[np.float64] = ((encoded.astype(np.float64) + 128) / 255) ** 2
    return light


def corrected(profile: SensorProfile, seen: NDArray[np.uint16], colour_temperature_k: float) -> NDArray[np.float64]:
    """Light of a frame of the whole sensor after its lens shading was corrected: (height / 2, width / 2, 4)."""
    assert profile.shading is not None
    rows, columns = (tables.node_places(side // 2) / (side // 2) for side in (HEIGHT, WIDTH))
    gains = profile.shading.gains_at(rows, columns, (1, 1), colour_temperature_k)
    out = np.empty((HEIGHT // 2, WIDTH // 2, 4), np.int8)
    encode_shaded(
        pack(seen, packing="u16", bit_depth=profile.bit_depth),
        out,
        RawLayout(WIDTH, HEIGHT, "u16", profile.bit_depth, profile.cfa),
        tables=tables.step_table(
            bit_depth=profile.bit_depth,
            black_level=profile.black_level,
            white_level=profile.white_level,
            gains=profile.normalised_gains(colour_temperature_k),
            curve="sqrt",
            scale=1 / 255,
            zero_point=-128,
        ),
        factors=tables.lens_factors(gains[..., PLANE_COLOURS], "sqrt"),
        zero_point=-128,
    )
    return dequantised(out)


@pytest.mark.parametrize("name", [name for name in shipped_profiles() if load_profile(name).awb_curve])
def test_a_shaded_frame_becomes_flat(name: str) -> None:
    profile = load_profile(name)
    seen = codes(profile, grey(1, HEIGHT, WIDTH), exposure=0.7)
    light = corrected(profile, seen, TEMPERATURE_K)
    tiles = light.reshape(12, HEIGHT // 24, 16, WIDTH // 32, 4).mean(axis=(1, 3))
    assert np.abs(tiles / tiles.mean(axis=(0, 1)) - 1).max() < 0.01
    shaded = corrected(_unshaded(profile), seen, TEMPERATURE_K)
    assert shaded[:20, :20].mean() < 0.95 * shaded[110:130, 150:170].mean()


def test_a_window_shows_its_part_of_the_lens_and_of_the_defects() -> None:
    profile = replace(quiet(load_profile("imx219")), defects=(Defect(101, 51, 0.0, 1.0), Defect(3, 3, 0.0, 1.0)))
    whole = SensorWindow(0, 0, WIDTH, HEIGHT, (WIDTH, HEIGHT))
    seen = codes(profile, grey(1, HEIGHT, WIDTH), exposure=0.7, imperfections=Imperfections(window=whole))
    part = SensorWindow(100, 50, 200, 100, (WIDTH, HEIGHT))
    cropped = codes(profile, grey(1, 100, 200), exposure=0.7, imperfections=Imperfections(window=part))
    assert np.abs(cropped.astype(int) - seen[50:150, 100:300]).max() <= 1
    assert cropped[1, 1] == 1023
    mirrored = replace(part, flips=Flips(vertical=True, horizontal=True))
    turned = codes(profile, grey(1, 100, 200), exposure=0.7, cfa="BGGR", imperfections=Imperfections(window=mirrored))
    assert np.abs(turned[::-1, ::-1].astype(int) - cropped).max() <= 1


def _unshaded(profile: SensorProfile) -> SensorProfile:
    assert profile.shading is not None
    cells = profile.shading.rows * profile.shading.columns
    return replace(profile, shading=replace(profile.shading, luminance=(1.0,) * cells, colour=()))


def test_colours_in_the_corner_are_those_of_the_centre() -> None:
    pytest.importorskip("colour", reason="colour-science is not installed (extra calibration)")
    from edge_isp.calibration.measure.colour_chart import colour_errors, reference_srgb

    profile = load_profile("imx219")
    matrix = profile.colour_matrix(TEMPERATURE_K)
    corner, centre = [], []
    for colour in reference_srgb():
        scene = np.broadcast_to(np.maximum(colour, 0).astype(np.float32), (HEIGHT, WIDTH, 3))
        light = corrected(profile, codes(profile, scene, exposure=0.9), TEMPERATURE_K)
        rgb = np.stack([light[..., 0], light[..., 1:3].mean(axis=-1), light[..., 3]], axis=-1)
        corner.append(rgb[:40, :40].mean(axis=(0, 1)) @ matrix.T)
        centre.append(rgb[100:140, 140:180].mean(axis=(0, 1)) @ matrix.T)
    assert colour_errors(np.array(corner), np.array(centre)).max() < 1
