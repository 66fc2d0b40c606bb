"""Shipped profiles against the tuning files, and profiles to TOML and back."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_isp.calibration.profile import (
    Provenance,
    SensorProfile,
    _best_profile,
    load_profile,
    parse_profile,
    profile_of,
    shipped_profiles,
)
from edge_isp.calibration.profile_file import format_profile, save_profile
from edge_isp.calibration.shading import expand
from edge_isp.calibration.tuning import load_libcamera_tuning
from edge_isp.errors import ProfileError
from tests.calibration.sensors import DEFECTS, sensors

SHIPPED = ("imx219", "imx290", "imx296", "imx462", "imx477", "imx500", "imx708", "ov5647")


def tuning_folder() -> Path:
    data = os.environ.get("EDGE_ISP_DATA")
    if not data:
        pytest.skip("EDGE_ISP_DATA is not set: no tuning files")
    return Path(data) / "tuning"


def algorithms(path: Path) -> dict[str, Any]:
    return {name: values for entry in json.loads(path.read_text())["algorithms"] for name, values in entry.items()}


def test_all_sensors_ship() -> None:
    assert {*SHIPPED, "imx708_wide"} <= set(shipped_profiles())
    for name in shipped_profiles():
        assert load_profile(name).name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profile_equals_tuning_file_to_the_digit(name: str) -> None:
    tuning = algorithms(tuning_folder() / f"vc4_{name}.json")
    profile = load_profile(name)
    black16 = tuning["rpi.black_level"]["black_level"]
    assert profile.black_level == (black16 * 2.0 ** (profile.bit_depth - 16),) * 4
    curve = [v for p in profile.awb_curve for v in (p.colour_temperature_k, p.red_over_green, p.blue_over_green)]
    assert curve == tuning["rpi.awb"].get("ct_curve", [])
    assert [(m.colour_temperature_k, list(m.matrix)) for m in profile.colour_matrices] == [
        (entry["ct"], entry["ccm"]) for entry in tuning["rpi.ccm"]["ccms"]
    ]
    shading, alsc = profile.shading, tuning["rpi.alsc"]
    assert shading is not None
    assert list(shading.luminance) == alsc["luminance_lut"]
    assert shading.luminance_strength == alsc["luminance_strength"]
    assert [(e.colour_temperature_k, list(e.red)) for e in shading.colour] == [
        (entry["ct"], entry["table"]) for entry in alsc.get("calibrations_Cr", [])
    ]
    assert [(e.colour_temperature_k, list(e.blue)) for e in shading.colour] == [
        (entry["ct"], entry["table"]) for entry in alsc.get("calibrations_Cb", [])
    ]
    assert profile.noise is not None
    shot = tuning["rpi.noise"]["reference_slope"] ** 2 / (65535 - black16)
    # The IMX219's was written with seven digits before the first model was trained on it.
    assert profile.noise.shot == (pytest.approx(shot, rel=1e-6) if name == "imx219" else shot)


def test_every_tuning_file_imports() -> None:
    files = sorted(tuning_folder().glob("*.json"))
    assert files
    for file in files:
        profile = load_libcamera_tuning(file)
        assert parse_profile(format_profile(profile).encode(), "round trip") == profile


@given(sensors(shading=True), st.text(max_size=20), st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_profile_comes_back_from_its_file(profile: SensorProfile, words: str, follows: bool) -> None:
    words = words.encode("utf-8", "replace").decode()
    whole = profile.with_section(
        Provenance("defects", "measured", "2026-01-01", words, words),
        defects=DEFECTS,
        cfa_follows_flips=follows,
        bit_depths=(8, 10),
        size=(640, 480),
        black_level_drift=(0.1, 0.2, -0.3, 0.4),
    )
    assert parse_profile(format_profile(whole).encode(), "round trip") == whole


def test_save_is_whole_or_nothing(tmp_path: Path) -> None:
    profile = load_profile("imx219")
    path = tmp_path / "mine.toml"
    save_profile(profile, path)
    assert load_profile(path) == profile
    assert [p.name for p in tmp_path.iterdir()] == ["mine.toml"]
    with pytest.raises(ProfileError, match="cannot be written"):
        save_profile(profile, tmp_path / "missing" / "mine.toml")


@pytest.mark.parametrize(
    ("cfa", "vertical", "horizontal", "expected"),
    [
        ("RGGB", False, True, "GRBG"),
        ("RGGB", True, False, "GBRG"),
        ("RGGB", True, True, "BGGR"),
        ("GBRG", False, True, "BGGR"),
        ("GBRG", True, False, "RGGB"),
    ],
)
def test_flips_move_the_colours(cfa: str, vertical: bool, horizontal: bool, expected: str) -> None:
    profile = SensorProfile("x", 10, cfa, (64, 64, 64, 64), 1023)
    assert profile.flipped_cfa(vertical=vertical, horizontal=horizontal) == expected


def test_a_sensor_that_shifts_its_window_keeps_its_order() -> None:
    assert load_profile("imx290").flipped_cfa(vertical=True, horizontal=True) == "RGGB"
    assert load_profile("ov5647").flipped_cfa(vertical=True, horizontal=False) == "RGGB"


def test_shading_interpolates_as_libcamera_does() -> None:
    shading = load_profile("imx219").shading
    assert shading is not None
    low, high = (np.array(shading.colour[i].red) for i in (0, 1))
    (t0, t1) = (shading.colour[i].colour_temperature_k for i in (0, 1))
    at = 3300.0
    table = (low * (t1 - at) + high * (at - t0)) / (t1 - t0)
    luminance = (np.array(shading.luminance) - 1) * 0.7 + 1
    expected = table / table.min() * luminance
    assert shading.gains(at, luminance_strength=0.7)[0].ravel() == pytest.approx(expected, rel=1e-12)
    assert np.array_equal(shading.gains(1000.0), shading.gains(t0))
    assert np.array_equal(shading.gains(20000.0), shading.gains(shading.colour[-1].colour_temperature_k))


def test_shading_at_places_of_the_sensor() -> None:
    shading = load_profile("imx219").shading
    assert shading is not None
    size, kelvin = (1600, 1200), 5000.0
    rows, columns = (np.arange(count) + 0.5 for count in reversed(size))
    fine = shading.gains_at(rows, columns, size, kelvin)
    for channel, grid in enumerate(shading.gains(kelvin)):
        np.testing.assert_allclose(fine[..., channel], expand(grid, 1200, 1600), rtol=1e-6)
    part = shading.gains_at(rows[300:900], columns[1200:], size, kelvin)
    np.testing.assert_array_equal(part, fine[300:900, 1200:])
    beyond = shading.gains_at(np.array([-50.0, 1250.0]), np.array([-50.0, 1700.0]), size, kelvin)
    np.testing.assert_allclose(beyond, fine[np.ix_([0, -1], [0, -1])], rtol=1e-12)


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_knows_the_size_of_its_sensor(name: str) -> None:
    profile = load_profile(name)
    assert profile.size is not None
    assert profile.size[0] > profile.size[1] > 1000


# Malformed input: one clear error each.

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def _places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    entries = document.items() if isinstance(document, dict) else enumerate(document[:3])
    if isinstance(document, (dict, list)):
        for key, value in entries:
            found += _places(value, (*path, key)) if isinstance(value, (dict, list)) else [(*path, key)]
    return found


def small_tuning() -> dict[str, Any]:
    table = [1.0 + i / 192 for i in range(192)]
    return {
        "version": 2.0,
        "algorithms": [
            {"rpi.black_level": {"black_level": 4096}},
            {"rpi.noise": {"reference_constant": 0, "reference_slope": 3.67}},
            {"rpi.awb": {"ct_curve": [2500.0, 0.9, 0.3, 6000.0, 0.5, 0.7]}},
            {"rpi.ccm": {"ccms": [{"ct": 2860, "ccm": [2, -0.5, -0.5, -0.8, 2.8, -1, -0.3, -1.1, 2.4]}]}},
            {
                "rpi.alsc": {
                    "luminance_strength": 0.7,
                    "calibrations_Cr": [{"ct": 3000, "table": table}],
                    "calibrations_Cb": [{"ct": 3000, "table": table}],
                    "luminance_lut": table,
                }
            },
        ],
    }


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_malformed_tuning_files_give_a_profile_error(tmp_path_factory: Any, data: st.DataObject) -> None:
    document = small_tuning()
    *way, last = data.draw(st.sampled_from(_places(document)))
    inner: Any = document
    for key in way:
        inner = inner[key]
    inner[last] = data.draw(_JSON)
    path = tmp_path_factory.getbasetemp() / "hostile.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    _loads_or_fails(lambda: load_libcamera_tuning(path))


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_bytes_that_are_no_tuning_file(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.json"
    path.write_bytes(content)
    with pytest.raises(ProfileError):
        load_libcamera_tuning(path)


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_malformed_profiles_give_a_profile_error(data: st.DataObject) -> None:
    lines = format_profile(load_profile("imx219")).splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    junk = st.sampled_from(["", "[sensor]", "x = nan", "[[", "1e400", "inf,", "-1", '"', "{}", "9" * 5000])
    lines[number] = data.draw(junk | st.text(max_size=20))
    content = "\n".join(lines).encode("utf-8", "replace")
    _loads_or_fails(lambda: parse_profile(content, "hostile.toml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bit_depth = 10", "bit_depth = 7", "bit_depth must be 8 to 16"),
        ("shot = 2.192239e-04", "shot = nan", "noise.shot must be a finite number, found nan"),
        ("size = [3280, 2464]", "size = [3280]", "sensor.size must be a list of 2 whole numbers, found"),
        ("size = [3280, 2464]", "size = [3280, 0]", "size must be the sensor's width and height in pixels"),
        ("rows = 12", "rows = 11", "shading luminance must be 11x16 numbers, found 192"),
        ("rows = 12", "rows = 1000000000000", "shading grid must have"),
        ("[2498, 0.9309", "[2498, -1", "awb curve must hold positive numbers"),
        ("2.12089, ", "1e300, ", "must be 9 numbers of at most 100"),
        ("[provenance.noise]", "[provenance.nois]", "provenance must be of one of"),
        ('cfa = "RGGB"', 'cfa = "RGGB"\ncfa_follows_flips = "no"', "cfa_follows_flips must be true or false"),
        ("[sensor]", "[sensors]", "the file has the unknown key 'sensors'; did you mean 'sensor'?"),
    ],
)
def test_what_is_wrong_is_said(old: str, new: str, message: str) -> None:
    text = format_profile(load_profile("imx219"))
    assert old in text
    with pytest.raises(ProfileError, match=r"hostile\.toml: ") as caught:
        parse_profile(text.replace(old, new, 1).encode(), "hostile.toml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("algorithm", "key", "value", "message"),
    [
        ("rpi.black_level", "black_level", 65535, "not a libcamera tuning file"),
        ("rpi.noise", "reference_slope", 1e200, "not a libcamera tuning file"),
        ("rpi.awb", "ct_curve", [2500.0, 0.9], "ct_curve must hold triples"),
        ("rpi.alsc", "luminance_lut", [1.0] * 191, "luminance_lut must be 192 or 1024 numbers, found 191"),
        ("rpi.alsc", "luminance_lut", [0.0] * 192, "must hold gains"),
        ("rpi.alsc", "calibrations_Cb", [], "red and blue at the same colour temperatures"),
        ("rpi.ccm", "ccms", [{"ct": 3000, "ccm": [0.0] * 9}], "cannot be inverted"),
    ],
)
def test_what_is_wrong_with_a_tuning_file_is_said(
    tmp_path: Path, algorithm: str, key: str, value: Any, message: str
) -> None:
    document = small_tuning()
    for entry in document["algorithms"]:
        if algorithm in entry:
            entry[algorithm][key] = value
    path = tmp_path / "sensor.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ProfileError, match=r"sensor\.json: ") as caught:
        load_libcamera_tuning(path)
    assert message in str(caught.value)


def test_deep_nesting_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="nested too deeply"):
        parse_profile(b"x = " + b"[" * 100_000, "deep")
    path = tmp_path / "huge.toml"
    path.write_bytes(b"#" * (1 << 22) + b"##")
    with pytest.raises(ProfileError, match="larger than"):
        load_profile(path)
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ProfileError, match="not a JSON file"):
        load_libcamera_tuning(path)


def _loads_or_fails(load: Any) -> None:
    """A profile or a ProfileError; anything else, a warning too, fails the test."""
    with contextlib.suppress(ProfileError):
        load()


@pytest.mark.parametrize(
    ("sensor", "profile"),
    [
        ("imx219", "imx219"),
        ("IMX219", "imx219"),
        ("imx708_wide", "imx708_wide"),
        ("imx477_16mm", "imx477"),
        ("imx477_scientific", "imx477"),
        ("imx296_mono", None),
        ("imx2190", None),
        ("imx999_noir", None),
        ("../imx219", None),
        ("", None),
        (None, None),
    ],
)
def test_a_sensor_s_profile_is_found_by_one_rule(sensor: str | None, profile: str | None) -> None:
    found = profile_of(sensor)
    assert (found and found.name) == profile
    given_profile = load_profile("ov5647")
    assert profile_of(sensor, given_profile) is given_profile


def test_a_sensor_without_infrared_filter_takes_its_lens_and_says_that_colours_are_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _best_profile.cache_clear()
    for _ in range(2):
        assert profile_of("imx708_wide_noir") == load_profile("imx708_wide")
        assert profile_of("imx708_noir") == load_profile("imx708")
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "'imx708_wide_noir' has no infrared filter" in messages[0]
    assert "colours will be off" in messages[0]


def test_every_shipped_profile_has_the_camera_s_tone_curve() -> None:
    for name in shipped_profiles():
        curve = load_profile(name).tone_curve
        light, value = zip(*curve, strict=True)
        assert (curve[0], curve[-1]) == ((0, 0), (65535, 65535))
        # Raspberry Pi's curve, as facts of its tuning files have it: 0.18 becomes 129 of 255.
        assert np.interp(0.18 * 65535, light, value) / 65535 * 255 == pytest.approx(129, abs=1)


@pytest.mark.parametrize("curve", ["[[0, 0]]", "[[0, 0], [0, 5]]", "[[0, 9], [5, 3]]", "[[0, 0], [70000, 1]]"])
def test_tone_curves_that_cannot_be(curve: str) -> None:
    text = format_profile(replace(load_profile("imx219"), tone_curve=())) + f"\n[tone]\ncurve = {curve}\n"
    with pytest.raises(ProfileError, match="x.toml: tone curve must be at least two rising points"):
        parse_profile(text.encode(), "x.toml")


def test_tuning_files_are_read_as_libcamera_reads_them(tmp_path: Path) -> None:
    plain = load_libcamera_tuning(_tuning_file(tmp_path, small_tuning()))
    text = json.dumps(small_tuning(), indent=1)
    lax = '# a comment, with a ] and a "\n' + text.replace("\n ]", ", # the last\n ]").replace("\n}", ",\n}")
    assert lax.count(",") > text.count(",")
    path = tmp_path / "sensor.json"
    path.write_text(lax)
    assert load_libcamera_tuning(path) == plain
    algorithms = {name: values for entry in small_tuning()["algorithms"] for name, values in entry.items()}
    assert load_libcamera_tuning(_tuning_file(tmp_path, algorithms)) == plain
    assert load_libcamera_tuning(_tuning_file(tmp_path, {"version": 1.0, **algorithms})) == plain
    with pytest.raises(ProfileError, match="version must be 1 or 2, found 3"):
        load_libcamera_tuning(_tuning_file(tmp_path, small_tuning() | {"version": 3.0}))


def test_black_levels_of_each_channel_and_libcamera_s_defaults(tmp_path: Path) -> None:
    def levels(values: dict[str, int]) -> tuple[float, ...]:
        document = small_tuning()
        for entry in document["algorithms"]:
            if "rpi.black_level" in entry:
                entry["rpi.black_level"] = values
        return load_libcamera_tuning(_tuning_file(tmp_path, document)).black_level

    assert levels({}) == (64,) * 4
    assert levels({"black_level": 3200}) == (50,) * 4
    channels = {"black_level_r": 640, "black_level_g": 1280, "black_level_b": 1920}
    assert levels(channels) == (10, 20, 20, 30)
    assert levels({"black_level": 3200, "black_level_b": 640}) == (50, 50, 50, 10)


def test_a_monochrome_sensor_s_tuning_file_is_refused(tmp_path: Path) -> None:
    document = small_tuning()
    document["algorithms"] = [e for e in document["algorithms"] if not e.keys() & {"rpi.awb", "rpi.ccm"}]
    load_libcamera_tuning(_tuning_file(tmp_path, document))
    document["algorithms"].append({"rpi.agc": {}})
    with pytest.raises(ProfileError, match=r"sensor.json: the tuning file of a monochrome sensor.*Bayer"):
        load_libcamera_tuning(_tuning_file(tmp_path, document))


def _tuning_file(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "sensor.json"
    path.write_text(json.dumps(document))
    return path
