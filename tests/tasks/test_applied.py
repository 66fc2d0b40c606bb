"""What results say of the corrections that were applied to their frame, and where each came from."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_isp import AppliedCorrections, ModelOptions, Origins, Pipeline, ReplayCamera
from edge_isp.calibration.profile import Defect, load_profile
from edge_isp.frame import RawFrame
from edge_isp.metering.meter import complete_frame
from edge_isp.models.card import find_model
from edge_isp.tasks.registry import task_for
from tests.support.dng import LONG, SHORT, SIGNED_RATIONAL, Tag, write_dng

PROFILE = load_profile("imx219")
FORMAT = """[format]
width = 64
height = 48
cfa = "RGGB"
bit_depth = 10
packing = "u16"
"""
CODES = np.random.default_rng(0).integers(100, 900, (48, 64)).astype(np.uint16)


def recording(folder: Path, rest: str) -> RawFrame:
    path = folder / "scene.raw"
    path.write_bytes(CODES.tobytes())
    path.with_suffix(".toml").write_text(FORMAT + rest)
    with ReplayCamera(path) as camera:
        frame = camera.read()
    assert frame is not None
    return frame


def applied(frame: RawFrame, model: str = "rfdcsanet-s", **options: Any) -> AppliedCorrections:
    """What a task says, the network's output being anything."""
    card = find_model(model, frame.sensor)
    task = task_for(card, **options)
    frame = complete_frame(frame, options.get("profile"))
    tensor = np.zeros(task.input_shape(frame.format), np.int8)
    task.encode(frame, tensor)
    outputs = [np.zeros((1, *tensor.shape[1:3], output.shape[3]), np.int8) for output in card.outputs]
    found = task.decode(outputs, frame, tensor).applied
    assert found is not None
    return found


def test_the_profile_and_the_file(tmp_path: Path) -> None:
    found = applied(
        recording(
            tmp_path,
            "window = [0, 0, 64, 48]\n[sensor]\nname = 'imx219'\n[frame]\ncolour_gains = [1.75, 1.43]\n"
            "colour_temperature_k = 5700\nanalogue_gain = 4\ndigital_gain = 1.5\n",
        ),
        profile=replace(PROFILE, defects=(Defect(3, 4),)),
    )
    profile = "profile 'imx219'"
    assert (found.black_level.value, found.black_level.origin) == (
        "R, Gr, Gb, B 64, 64, 64, 64; white 1023 (10 bits)",
        profile,
    )
    assert (found.white_balance.value, found.white_balance.origin) == ("red 1.750, blue 1.430, 5700 K", "file")
    assert (found.brightness.value, found.brightness.origin) == ("factor 1.5: digital gain 1.5", "file")
    assert (found.noise.value, found.noise.origin) == ("analogue gain 4", f"file, {profile}")
    assert (found.lens_shading.value, found.lens_shading.origin) == (
        "64x48 at 0, 0 of 3280x2464, light of 5700 K",
        profile,
    )
    assert found.defects.value == "those that stand out, and 1 listed of the whole sensor"
    assert (found.colour_matrix.value, found.colour_matrix.origin) == ("light of 5700 K", profile)
    assert (found.tone.value, found.tone.origin) == ("camera curve", profile)
    assert found.orientation.value == "1: upright"


def test_what_nobody_states_is_an_estimate(tmp_path: Path) -> None:
    found = applied(recording(tmp_path, "[sensor]\nname = 'imx219'\n"))
    assert found.white_balance.origin == "estimate, profile 'imx219'"
    assert found.noise.origin == "estimate"
    assert found.noise.value.startswith("variance ")
    assert found.lens_shading.origin == ""
    assert "it is not known which part of the sensor a frame of 64x48 shows" in found.lens_shading.value
    bare = applied(recording(tmp_path, "[sensor]\nblack_level = [64, 64, 64, 64]\nwhite_level = 1023\n"))
    assert bare.black_level.origin == "file"
    assert bare.white_balance.origin == "estimate"
    assert bare.colour_matrix.value == "none: colours are off"
    assert bare.tone.origin.startswith("generic")
    dark = recording(tmp_path, "[sensor]\nname = 'imx219'\n")
    found = applied(replace(dark, data=np.full_like(dark.data.view(np.uint16), 64).view(np.uint8)))
    assert found.white_balance.origin == "too dark for an estimate: daylight, profile 'imx219'"
    stated = applied(recording(tmp_path, "[sensor]\nname = 'imx219'\n[frame]\ncolour_temperature_k = 4000\n"))
    assert stated.white_balance.origin == "AWB curve at the stated temperature, profile 'imx219'"


def test_a_dng(tmp_path: Path) -> None:
    tags: dict[str, Tag | None] = {"Orientation": (SHORT, [6]), "BaselineExposure": (SIGNED_RATIONAL, [1.0])}
    path = write_dng(tmp_path / "a.dng", CODES, {**tags, "ISOSpeedRatings": (SHORT, [400])})
    with ReplayCamera(path) as camera:
        frame = camera.read()
    assert frame is not None
    found = applied(frame)
    origins = {name: getattr(found, name).origin for name in ("black_level", "white_balance", "colour_matrix")}
    assert set(origins.values()) == {"file"}
    assert (found.orientation.value, found.orientation.origin) == ("6", "file")
    assert (found.brightness.value, found.brightness.origin) == ("factor 2: baseline exposure +1 EV", "file")
    # With a profile, the message claims the profile's matrix, which is the one that is used.
    assert applied(frame, profile=PROFILE).colour_matrix.origin == "profile 'imx219'"
    without = write_dng(tmp_path / "b.dng", CODES, {"ColorMatrix1": None, "BlackLevel": (LONG, [64])})
    with ReplayCamera(without) as camera:
        frame = camera.read()
    assert frame is not None
    assert applied(frame).colour_matrix.value == "none: colours are off"


def test_what_was_switched_off(tmp_path: Path) -> None:
    frame = recording(tmp_path, "window = [0, 0, 64, 48]\n[sensor]\nname = 'imx219'\n")
    found = applied(frame, correct_shading=False, correct_defects=False, tone="srgb")
    assert (found.lens_shading.value, found.lens_shading.origin) == ("off, as asked for", "")
    assert found.defects.value == "off, as asked for"
    assert (found.tone.value, found.tone.origin) == ("srgb curve", "IEC 61966-2-1")
    none = applied(replace(frame, lens_shading=False))
    assert none.lens_shading.value == "not corrected: the frame has none, as its source says"


def test_models_that_do_it_themselves(tmp_path: Path) -> None:
    frame = recording(tmp_path, "[sensor]\nname = 'imx219'\n")
    assert applied(frame, "rfdcsanet-published").colour_matrix.origin == "model"
    found = applied(replace(frame, orientation=3), "raw-detector", input_size=32)
    assert (found.white_balance.origin, found.orientation.value) == ("estimate, profile 'imx219'", "3")
    assert found.tone.value == found.defects.value == "not for a detector"


def test_origins() -> None:
    origins = Origins("file").with_others(black_level="profile 'x'")
    assert (origins.of("black_level"), origins.of("white_level")) == ("profile 'x'", "file")
    assert Origins().of("colour_gains") == "camera"


@pytest.mark.parametrize("model", ["rfdcsanet-s", "raw-detector"])
def test_results_of_a_pipeline_carry_it(model: str, tmp_path: Path) -> None:
    size = {"input_size": 32} if model == "raw-detector" else {}
    recording(tmp_path, "[sensor]\nname = 'imx219'\n")
    with Pipeline(ReplayCamera(tmp_path / "scene.raw"), ModelOptions(model, **size)) as pipeline:  # type: ignore[arg-type]
        (result,) = list(pipeline)
    found = result.result.applied
    assert found is not None
    lines = found.lines()
    assert len(lines) == 9
    assert all(re.fullmatch(r"[a-z ]{13} \S.*", line) for line in lines)
