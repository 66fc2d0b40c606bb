"""Profiles, libcamera's tuning files, and the forward sensor model against its own statistics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_isp.calibration.light import normalise_gains, srgb_decode, srgb_encode
from edge_isp.calibration.profile import load_profile, parse_profile, shipped_profiles
from edge_isp.calibration.simulation import SensorModel
from edge_isp.calibration.tuning import load_libcamera_tuning
from edge_isp.errors import ProfileError
from edge_isp.kernels.layout import CELL_PLANES


def test_srgb_curve_at_known_points() -> None:
    # IEC 61966-2-1: 8-bit 188 is about half the light.
    assert srgb_encode(0.5) * 255 == pytest.approx(187.5, abs=0.1)
    assert srgb_encode(0.002) == pytest.approx(0.02584)
    assert srgb_encode([-1.0, 2.0]).tolist() == pytest.approx([0.0, 1.0])


@given(st.floats(0, 1))
def test_srgb_decode_undoes_encode(light: float) -> None:
    assert srgb_decode(srgb_encode(light)) == pytest.approx(light, abs=1e-9)


def test_gains_are_normalised_to_a_smallest_of_one() -> None:
    assert normalise_gains(0.5, 1.0, 2.0) == (1.0, 2.0, 4.0)
    with pytest.raises(ValueError, match="positive"):
        normalise_gains(1.0, 1.0, 0.0)


def test_imx219_profile_equals_libcamera_tuning(data: Path) -> None:
    shipped = load_profile("imx219")
    tuning = load_libcamera_tuning(data / "tuning" / "vc4_imx219.json")
    assert tuning.name == "imx219"
    assert shipped.black_level == tuning.black_level
    assert shipped.white_level == tuning.white_level
    assert shipped.awb_curve == tuning.awb_curve
    assert shipped.colour_matrices == tuning.colour_matrices
    assert shipped.noise is not None
    assert tuning.noise is not None
    assert shipped.noise.shot == pytest.approx(tuning.noise.shot, rel=1e-6)


@pytest.mark.parametrize("sensor", ["imx219", "imx290", "imx296", "imx462", "imx477", "imx500", "imx708", "ov5647"])
def test_every_tuning_file_loads(data: Path, sensor: str) -> None:
    profile = load_libcamera_tuning(data / "tuning" / f"vc4_{sensor}.json", bit_depth=12)
    source = json.loads((data / "tuning" / f"vc4_{sensor}.json").read_text())
    algorithms = {name: values for entry in source["algorithms"] for name, values in entry.items()}
    assert profile.black_level[0] == algorithms["rpi.black_level"]["black_level"] / 16
    assert [list(m.matrix) for m in profile.colour_matrices] == [m["ccm"] for m in algorithms["rpi.ccm"]["ccms"]]


def test_interpolation_by_colour_temperature() -> None:
    profile = load_profile("imx219")
    assert profile.colour_gains(1000) == profile.colour_gains(2498) == (1 / 0.9309, 1 / 0.3599)
    red, blue = profile.colour_gains((4600 + 5716) / 2)
    assert red == pytest.approx(2 / (0.6079 + 0.5712))
    assert blue == pytest.approx(2 / (0.6721 + 0.7017))
    np.testing.assert_array_equal(profile.colour_matrix(9000), profile.colour_matrix(7580))
    middle = (profile.colour_matrix(4650) + profile.colour_matrix(5858)) / 2
    np.testing.assert_allclose(profile.colour_matrix((4650 + 5858) / 2), middle)
    # White stays white to the accuracy of the tuning file's digits.
    np.testing.assert_allclose(profile.colour_matrix(5000).sum(1), 1, atol=2e-4)


def test_profile_at_another_bit_depth() -> None:
    profile = load_profile("imx219").at_bit_depth(12)
    assert (profile.bit_depth, profile.black_level, profile.white_level) == (12, (256,) * 4, 4095)


@pytest.mark.parametrize(
    ("find", "replacement", "message"),
    [
        ("bit_depth = 10", "bit_depth = 20", "bit_depth must be 8 to 16, found 20"),
        ('cfa = "RGGB"', 'cfa = "RGBG"', "cfa must be one of"),
        ("white_level = 1023", "white_level = 1024", "white_level must be above 0 and at most 1023"),
        ("[64, 64, 64, 64]", "[64, 64, 64, 2000]", "black_level must be"),
        ("[64, 64, 64, 64]", "[64, 64]", "black_level must be a list of 4 finite numbers"),
        ("shot = 2.19", "shot = -2.19", "noise must be positive"),
        ("[2498, 0.9309, 0.3599]", "[2498, 0, 0.3599]", "awb curve must hold positive numbers"),
        ("[2498,", "[9999,", "in order of rising colour temperature"),
        ("2.12089, -0.52461", "2.12089", "must be 9 numbers"),
        ('name = "imx219"', "", "lacks name"),
        ("[sensor]", "[sensor", "not a TOML file"),
    ],
)
def test_malformed_profiles_give_one_clear_error(find: str, replacement: str, message: str) -> None:
    good = (Path(__file__).parents[2] / "calibration" / "profiles" / "imx219.toml").read_text()
    assert find in good
    with pytest.raises(ProfileError, match=f"^sensor.toml: .*{message}"):
        parse_profile(good.replace(find, replacement, 1).encode(), "sensor.toml")


def test_unknown_profiles_and_tuning_files(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no sensor profile 'imx999'; there are: .*imx219"):
        load_profile("imx999")
    with pytest.raises(ProfileError, match="none.toml: cannot be read: No such file"):
        load_profile(tmp_path / "none.toml")
    with pytest.raises(ProfileError, match="cannot be read"):
        load_libcamera_tuning(tmp_path / "none.json")
    for content, message in (
        ("{", "not a JSON file"),
        ("[]", ".*no list 'algorithms'"),
        ('{"algorithms": []}', "not a lib"),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ProfileError, match=f"bad.json: {message}"):
            load_libcamera_tuning(tmp_path / "bad.json")
    assert "imx219" in shipped_profiles()


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
@pytest.mark.parametrize("gain", [1.0, 8.0])
def test_forward_model_has_the_mean_and_noise_that_its_profile_says(cfa: str, gain: float) -> None:
    profile = load_profile("imx219")
    model = SensorModel(profile)
    grey, exposure = 0.4, 0.5
    scene = np.full((400, 400, 3), grey, np.float32)
    codes = model.codes(
        scene,
        np.random.default_rng(0),
        colour_temperature_k=5000,
        exposure=exposure,
        analogue_gain=gain,
        cfa=cfa,
    )
    gains = profile.normalised_gains(5000)
    assert profile.noise is not None
    for place, plane in enumerate(CELL_PLANES[cfa]):
        y, x = divmod(place, 2)
        colour = (0, 1, 1, 2)[plane]
        light = grey * exposure / gains[colour]
        found = (codes[y::2, x::2] - 64.0) / (1023 - 64)
        variance = profile.noise.variance(light, gain) + (1 / 959) ** 2 / 12  # rounding
        standard_error = np.sqrt(variance / found.size)
        assert abs(found.mean() - light) < 5 * standard_error + 2e-4 * light  # rows sum to 1 within 2e-4
        assert found.var() == pytest.approx(variance, rel=0.04)


def test_forward_model_and_its_inverse_keep_colours() -> None:
    """Balanced, through the colour matrix, a noiseless frame is the scene again."""
    profile = load_profile("imx219")
    model = SensorModel(profile)
    scene = np.random.default_rng(0).uniform(0, 1, (8, 8, 3)).astype(np.float32)
    scene = (scene + scene.mean(2, keepdims=True)) / 2  # inside the camera's gamut
    camera = model.camera_rgb(scene, colour_temperature_k=3500, exposure=1.0)
    balanced = camera * np.array(profile.normalised_gains(3500))
    np.testing.assert_allclose(balanced @ profile.colour_matrix(3500).T, scene, atol=1e-5)


def test_forward_model_needs_a_whole_profile() -> None:
    bare = parse_profile(
        b'[sensor]\nname = "x"\nbit_depth = 10\ncfa = "RGGB"\nblack_level = [64, 64, 64, 64]\nwhite_level = 1023\n', "x"
    )
    with pytest.raises(ProfileError, match="no noise, no AWB curve, no colour matrices"):
        SensorModel(bare)
    with pytest.raises(ProfileError, match="no AWB curve"):
        bare.colour_gains(5000)
    with pytest.raises(ProfileError, match="no colour matrices"):
        bare.colour_matrix(5000)
