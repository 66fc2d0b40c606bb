"""The tone of pictures: the camera's own curve by default, everywhere, and sRGB's where pictures are measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import edge_isp
from edge_isp import ModelOptions, Pipeline, ReplayCamera
from edge_isp.calibration.light import srgb_encode
from edge_isp.calibration.profile import SensorProfile, load_profile, shipped_profiles
from edge_isp.calibration.tone import TONES, tone_curve, tone_of_srgb, tone_table
from edge_isp.errors import ProfileError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.kernels.residual import TONE_ENTRIES
from edge_isp.models.card import find_model
from edge_isp.tasks.classical import ClassicalIsp
from edge_isp.tasks.isp import IspTask
from tests.support.recordings import DEMO

PROFILE = load_profile("imx219")
LIGHT = (0.02, 0.05, 0.18, 0.5, 0.8)
# What a Raspberry Pi's own picture has at this light, and what sRGB's transfer curve has.
CAMERA, SRGB = (24, 50, 129, 214, 242), (39, 63, 118, 188, 231)
EXPECTED = {"camera": CAMERA, "srgb": SRGB}
# A curve that no other sensor has: half as bright as sRGB's white.
DIM = replace(PROFILE, tone_curve=((0, 0), (65535, 32768)))


def grey(light: float, **changes: object) -> RawFrame:
    """A frame of one light, linear after white balance."""
    layout = RawFormat(32, 16, Cfa.RGGB, 12, Packing.U16)
    frame = RawFrame(
        data=pack(
            np.full((16, 32), round(256 + light * (4095 - 256)), np.uint16), packing=layout.packing, bit_depth=12
        ),
        format=layout,
        source="grey",
        sequence=0,
        timestamp_ns=0,
        black_level=(256.0,) * 4,
        white_level=4095.0,
        sensor="imx219",
        analogue_gain=1.0,
        colour_gains=(1.0, 1.0),
        colour_temperature_k=5000.0,
        lens_shading=False,
    )
    return replace(frame, **changes)  # type: ignore[arg-type]


def by_network(frame: RawFrame, model: str, tone: str | None = None, profile: SensorProfile | None = None) -> float:
    """The mean of a picture whose network changes nothing (calibrated), or gives sRGB (end to end)."""
    card = find_model(model, "imx219")
    task = IspTask(card, profile=profile, **({} if tone is None else {"tone": tone}))  # type: ignore[arg-type]
    tensor = np.zeros(task.input_shape(frame.format), np.int8)
    task.encode(frame, tensor)
    output = card.outputs[0]
    shape = (1, *tensor.shape[1:3], 3 * card.cell**2)
    if card.colour == "calibrated":
        made = np.zeros(shape, np.int8)
    else:
        light = (int(frame.data.view(np.uint16)[0, 0]) - 256) / (4095 - 256)
        value = srgb_encode(light)
        made = np.full(shape, np.rint(value / output.scale) + output.zero_point, np.int8)
    return float(task.decode([made], frame, tensor).rgb.mean())


@pytest.mark.parametrize("tone", TONES)
@pytest.mark.parametrize("profile", [*shipped_profiles(), None])
def test_curves_are_those_of_the_tuning_files(tone: str, profile: str | None) -> None:
    """Of every sensor, and of one that nothing is known of."""
    curve = tone_curve(tone, load_profile(profile) if profile else None)
    table = tone_table(curve, TONE_ENTRIES)
    assert [int(table[round(light * (TONE_ENTRIES - 1))]) for light in LIGHT] == pytest.approx(EXPECTED[tone], abs=1)
    of_srgb = tone_of_srgb(curve)
    assert [int(of_srgb[value]) for value in SRGB] == pytest.approx(EXPECTED[tone], abs=2)
    for values in (table, of_srgb):
        assert (values[0], values[-1]) == (0, 255)
        assert (np.diff(values.astype(int)) >= 0).all()


def test_srgb_is_unchanged() -> None:
    np.testing.assert_array_equal(tone_of_srgb(()), np.arange(256))


@pytest.mark.parametrize("model", ["rfdcsanet-s", "rfdcsanet-published"])
@pytest.mark.parametrize("tone", TONES)
def test_pictures_of_networks_have_it(model: str, tone: str) -> None:
    for light, expected in zip(LIGHT, EXPECTED[tone], strict=True):
        assert by_network(grey(light), model, tone) == pytest.approx(expected, abs=3)
        if tone == "camera":
            assert by_network(grey(light), model) == by_network(grey(light), model, tone)


@pytest.mark.parametrize("tone", TONES)
def test_classical_pictures_have_it(tone: str) -> None:
    for light, expected in zip(LIGHT, EXPECTED[tone], strict=True):
        assert ClassicalIsp(tone=tone).develop(grey(light)).rgb.mean() == pytest.approx(expected, abs=2)
        if tone == "camera":
            assert ClassicalIsp().develop(grey(light)).rgb.mean() == pytest.approx(expected, abs=2)


def test_the_profile_s_own_curve_is_used() -> None:
    for model in ("rfdcsanet-s", "rfdcsanet-published"):
        assert by_network(grey(0.5), model, profile=DIM) == pytest.approx(64, abs=3)
        assert by_network(grey(0.5), model, "srgb", profile=DIM) == pytest.approx(188, abs=3)
    assert ClassicalIsp(DIM).develop(grey(0.5)).rgb.mean() == pytest.approx(64, abs=2)


def test_sensors_without_a_curve_get_the_generic_one() -> None:
    bare = replace(PROFILE, tone_curve=())
    assert by_network(grey(0.5), "rfdcsanet-s", profile=bare) == pytest.approx(214, abs=3)
    assert by_network(grey(0.5, sensor="unknown"), "rfdcsanet-s") == pytest.approx(214, abs=3)


def pictures(tone: str) -> list[NDArray[np.uint8]]:
    with Pipeline(ReplayCamera(DEMO), ModelOptions(tone=tone)) as pipeline:
        return [result.picture.rgb for result in pipeline]


def test_pipelines_and_develop_take_the_camera_s_by_default() -> None:
    with Pipeline(ReplayCamera(DEMO)) as pipeline:
        default = [result.picture.rgb for result in pipeline]
    camera, srgb = pictures("camera"), pictures("srgb")
    np.testing.assert_array_equal(default, camera)
    np.testing.assert_array_equal(edge_isp.develop(DEMO), camera[0])
    np.testing.assert_array_equal(edge_isp.develop(DEMO, tone="srgb"), srgb[0])
    # More contrast: shadows are darker, highlights brighter.
    dark, bright = srgb[0] < 50, srgb[0] > 180
    assert camera[0][dark].mean() < 0.8 * srgb[0][dark].mean()
    assert camera[0][bright].mean() > srgb[0][bright].mean() + 5


@pytest.mark.parametrize("tone", ["Camera", "rec709", "", None, 3])
def test_a_tone_that_is_not_known_is_one_error(tone: str) -> None:
    message = "tone must be one of camera, srgb, found "
    with pytest.raises(ProfileError, match=message):
        ModelOptions(tone=tone)
    with pytest.raises(ProfileError, match=message):
        edge_isp.develop(DEMO, tone=tone)
    with pytest.raises(ProfileError, match=message):
        ClassicalIsp(tone=tone)


@pytest.mark.torch
def test_evaluation_measures_at_srgb(data: Path) -> None:
    """The figures of docs/models.md: a picture is compared with the photograph that was exposed."""
    from edge_isp.calibration.simulation import SensorModel
    from edge_isp.evaluation.exposures import expose_image
    from edge_isp.evaluation.isp.methods import model_method
    from edge_isp.training.simulation.samples import Capture

    sensor, capture = SensorModel(PROFILE), Capture(colour_temperature_k=5700.0, exposure=1.0, analogue_gain=1.0)
    exposure = expose_image(next(iter(sorted((data / "photos" / "kodak").glob("*.png")))), sensor, capture)
    with model_method("rfdcsanet-s").open(sensor) as develop:
        error = develop(exposure).astype(float) - exposure.photo
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 30
