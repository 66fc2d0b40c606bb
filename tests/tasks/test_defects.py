"""Pictures of frames with defective pixels: which are replaced, by what is known of the sensor."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp.calibration.measure.black_level import measure_black_level, with_black_level
from edge_isp.calibration.profile import Defect, SensorProfile, load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.errors import PipelineError
from edge_isp.frame import RawFormat, RawFrame
from edge_isp.kernels.defects import DefectPlan
from edge_isp.kernels.layout import Flips
from edge_isp.kernels.pack import pack
from edge_isp.models.card import find_model
from edge_isp.pipeline.options import ModelOptions
from edge_isp.sensor_window import SensorWindow
from edge_isp.tasks.defects import frame_defects
from edge_isp.tasks.isp import IspTask
from tests.calibration.sensors import grey, stack_of
from tests.support.planes import rggb_planes

CARD = find_model("rfdcsanet-s", None)
PROFILE = replace(load_profile("imx219"), shading=None)
STUCK = [(20, 20), (31, 33), (50, 11), (64, 70)]


def scene() -> NDArray[np.float32]:
    """A smooth picture, in linear sRGB light."""
    y, x = np.mgrid[:96, :128].astype(np.float32) / 128
    return np.stack([0.2 + 0.5 * x, 0.3 + 0.3 * y, 0.6 - 0.4 * x], axis=2)


def frame(codes: NDArray[np.uint16], **given: object) -> RawFrame:
    height, width = codes.shape
    made = RawFrame(
        data=pack(codes, packing="u16", bit_depth=10),
        format=RawFormat(width, height, PROFILE.cfa, 10, "u16"),  # type: ignore[arg-type]
        source="test",
        sequence=0,
        timestamp_ns=0,
        black_level=PROFILE.black_level,
        white_level=PROFILE.white_level,
        sensor="imx219",
        analogue_gain=4.0,
        colour_gains=PROFILE.colour_gains(5000),
        colour_temperature_k=5000,
        lens_shading=False,
    )
    return replace(made, **given)  # type: ignore[arg-type]


def clean_codes() -> NDArray[np.uint16]:
    return SensorModel(PROFILE).codes(scene(), np.random.default_rng(0), colour_temperature_k=5000, analogue_gain=4.0)


def stuck_codes() -> NDArray[np.uint16]:
    codes = clean_codes()
    for place, (x, y) in enumerate(STUCK):
        codes[y, x] = (0, 1023, 1023, 0)[place]
    return codes


def tensor(made: RawFrame, profile: SensorProfile | None = None, *, correct_defects: bool = True) -> NDArray[np.int8]:
    task = IspTask(CARD, profile=profile or PROFILE, correct_defects=correct_defects)
    out = np.zeros(task.input_shape(made.format), np.int8)
    task.encode(made, out)
    return rggb_planes(out[0], made.format.width, made.format.height)


def differing(a: NDArray[np.int8], b: NDArray[np.int8], more_than: int) -> int:
    return int(np.count_nonzero(np.abs(a.astype(int) - b.astype(int)) > more_than))


def test_stuck_pixels_are_replaced_by_default() -> None:
    clean = tensor(frame(clean_codes()), correct_defects=False)
    assert differing(tensor(frame(stuck_codes()), correct_defects=False), clean, 40) == len(STUCK)
    assert differing(tensor(frame(stuck_codes())), clean, 20) == 0


def test_a_frame_without_defects_stays() -> None:
    clean = frame(clean_codes())
    assert differing(tensor(clean), tensor(clean, correct_defects=False), 0) <= 2


def test_the_threshold_follows_the_noise_of_the_frame() -> None:
    """A pixel eight deviations off at gain 4 is noise at gain 16."""
    codes = np.full((96, 128), 400, np.uint16)
    codes[40, 40] += round(8 * 959 * float(np.sqrt(2.2e-4 * 4 * 336 / 959)))
    for given, replaced in (
        ({"analogue_gain": 4.0}, True),
        ({"analogue_gain": 64.0}, False),
        ({"analogue_gain": None, "noise_profile": (2.2e-4 * 64, 1e-6)}, False),
        ({"analogue_gain": None, "noise_profile": (2.2e-4 * 64, 0.0)}, False),
        ({"analogue_gain": 64.0, "noise_profile": (0.0, 0.0)}, False),
        ({"analogue_gain": 64.0, "noise_profile": (2.2e-4 * 4, 1e-6)}, True),
    ):
        made = frame(codes, **given)
        assert (differing(tensor(made), tensor(made, correct_defects=False), 0) > 0) == replaced, given


@pytest.mark.parametrize("flips", [Flips(False, False), Flips(True, True)])
def test_listed_pixels_are_found_through_the_window(flips: Flips) -> None:
    window = SensorWindow(1000, 600, 128, 96, PROFILE.size, flips)
    codes = clean_codes()
    x, y = 40, 21
    codes[y, x] += 15  # not seen without the list
    listed = (1000 + (127 - x if flips.horizontal else x), 600 + (95 - y if flips.vertical else y))
    profile = replace(PROFILE, defects=(Defect(*listed, 1.0, 0.1), Defect(0, 0, 1.0, 0.1)))
    made = frame(codes, window=window)
    found = tensor(made, profile)
    changed = np.argwhere(found != tensor(made))
    assert len(changed) == 1
    assert changed[0, :2].tolist() == [y // 2, x // 2]


def test_a_list_is_mapped_once_for_frames_of_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    mapped: list[tuple[int, int]] = []
    to_frame = SensorWindow.to_frame

    def counted(window: SensorWindow, x: int, y: int, frame_size: tuple[int, int]) -> tuple[int, int] | None:
        mapped.append((x, y))
        return to_frame(window, x, y, frame_size)

    monkeypatch.setattr(SensorWindow, "to_frame", counted)
    window = SensorWindow(1000, 600, 128, 96, PROFILE.size, Flips(False, False))
    profile = replace(PROFILE, defects=(Defect(1040, 621), Defect(1050, 630)))

    def plan(window: SensorWindow, profile: SensorProfile, gain: float) -> DefectPlan:
        made = frame_defects(frame(clean_codes(), window=window, analogue_gain=gain), profile, (2.0, 1.0, 1.5))
        assert made is not None
        return made

    first, again = (plan(window, profile, gain) for gain in (1.0, 4.0))
    assert len(mapped) == 2
    assert first.columns.tolist() == again.columns.tolist() == [40, 50]
    assert first.noise[0, 0] < again.noise[0, 0]
    assert plan(replace(window, left=1010), profile, 1.0).columns.tolist() == [30, 40]
    assert plan(window, replace(profile, defects=(Defect(1041, 621),)), 1.0).columns.tolist() == [41]
    assert plan(window, replace(profile, defects=()), 1.0).columns.tolist() == []


def test_a_list_that_cannot_be_placed_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    profile = replace(PROFILE, defects=(Defect(3, 3, 1.0, 0.1),))
    task = IspTask(CARD, profile=profile)
    out = np.zeros(task.input_shape(frame(stuck_codes()).format), np.int8)
    with caplog.at_level(logging.WARNING):
        for gain in (1.0, 4.0):
            task.encode(frame(stuck_codes(), analogue_gain=gain), out)
    assert [record.getMessage() for record in caplog.records if "lists are only looked for" in record.getMessage()] == [
        caplog.records[0].getMessage()
    ]
    assert "which part of the sensor a frame of 128x96 shows" in caplog.records[0].getMessage()
    assert differing(rggb_planes(out[0], 128, 96), tensor(frame(clean_codes())), 20) == 0


def test_frames_of_two_rows_are_encoded_as_they_are() -> None:
    made = frame(np.full((2, 64), 300, np.uint16))
    assert tensor(made).shape == (1, 32, 4)


def test_hot_pixels_that_calibration_lists_are_replaced() -> None:
    hot = (Defect(11, 7, 1.0, 0.3), Defect(60, 40, 1.0, 0.02), Defect(61, 40, 1.0, 0.5))
    specimen = replace(PROFILE, defects=hot)
    darks = stack_of(specimen, grey(0, 96, 128), 8)
    found = measure_black_level([darks])
    assert [(d.x, d.y) for d in found.hot] == [(11, 7), (60, 40), (61, 40)]
    assert [d.offset for d in found.hot] == pytest.approx([0.3, 0.02, 0.5], abs=0.005)
    measured = with_black_level(replace(specimen, defects=()), [darks], found, "2026-01-01")
    codes = stack_of(specimen, grey(0.5, 96, 128), 1).codes[0]
    whole = SensorWindow(0, 0, 128, 96, PROFILE.size, Flips(False, False))
    mended = tensor(frame(codes, window=whole, analogue_gain=1.0), measured)
    steady = np.median(mended, axis=(0, 1))
    for defect in hot:
        assert np.all(np.abs(mended[defect.y // 2, defect.x // 2] - steady) < 12)


def test_options_reach_the_task() -> None:
    made = frame(stuck_codes())
    task = ModelOptions(correct_defects=False).task(CARD)
    out = np.zeros(task.input_shape(made.format), np.int8)
    task.encode(made, out)
    assert np.array_equal(rggb_planes(out[0], 128, 96), tensor(made, correct_defects=False))
    with pytest.raises(PipelineError, match="so correct_defects would be ignored"):
        ModelOptions(correct_defects=False, make_task=IspTask)
