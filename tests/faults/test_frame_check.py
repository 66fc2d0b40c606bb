"""Which metadata of a frame count as absent, and which frames as damaged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_isp.frame import FrameStatus
from edge_isp.frame_check import check_frame
from edge_isp.sensor_window import SensorWindow
from tests.support.frames import frame_of

NUMBERS_THAT_ARE_NONE = (0, -1.0, math.nan, math.inf, -math.inf, 1e300, 10**400, "5", None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("analogue_gain", "digital_gain", "colour_temperature_k", "exposure_ns")
            for value in NUMBERS_THAT_ARE_NONE
        ),
        *(("colour_gains", gains) for value in NUMBERS_THAT_ARE_NONE for gains in ((value, 1.5), (1.5, value))),
        ("colour_gains", (1.5,)),
        ("colour_gains", 1.5),
        ("colour_matrix", (math.nan,) * 9),
        ("colour_matrix", (1.0,) * 8),
        ("noise_profile", (-1e-4, 1e-6)),
        ("baseline_exposure_ev", math.inf),
    ],
)
def test_what_cannot_be_a_setting_counts_as_absent(name: str, value: Any) -> None:
    frame = replace(frame_of(0), **{name: value})
    checked, unusable = check_frame(frame)
    assert getattr(checked, name) is None
    assert checked.status is FrameStatus.OK
    assert [each.name for each in unusable] == ([] if value is None else [name])
    assert all(name in each.reason and "absent" in each.reason for each in unusable)
    checked.release()
    assert frame._released == [True], "both share the lease"


@pytest.mark.parametrize("value", [0, 9, -1, math.nan, None, 1.5, "1", np.float32(3.5)])
def test_an_orientation_that_is_none_is_as_the_data_lies(value: Any) -> None:
    assert check_frame(replace(frame_of(0), orientation=value))[0].orientation == 1


JUNK: tuple[Any, ...] = (3, "", [], {}, math.nan, b"imx219", object(), np.array([1.0, 2.0]), (1, 2))


@pytest.mark.parametrize(
    ("name", "good", "absent"),
    [
        ("source", ("camera", ""), "camera"),
        ("sensor", ("imx219", "", None), None),
        ("window", (SensorWindow(0, 0, 4, 4), None), None),
        ("lens_shading", (True, False, np.False_), True),
        ("status", (FrameStatus.OK, FrameStatus.GAP | FrameStatus.TRUNCATED), FrameStatus.OK),
    ],
)
def test_what_is_of_another_type_counts_as_absent(name: str, good: tuple[Any, ...], absent: Any) -> None:
    for value in good:
        frame = replace(frame_of(0), **{name: value})
        assert check_frame(frame) == (frame, [])
    for value in JUNK:
        if any(type(value) is type(each) for each in good):
            continue
        changes: dict[str, Any] = {name: value}
        checked, unusable = check_frame(replace(frame_of(0), **changes))
        assert getattr(checked, name) == absent
        assert [each.name for each in unusable] == [name]


@pytest.mark.parametrize("kind", [list, np.array])
def test_lists_and_arrays_are_numbers(kind: Callable[[Any], Any]) -> None:
    frame = frame_of(0)
    values: dict[str, Any] = {"black_level": (64.0,) * 4, "colour_gains": (1.5, 1.75), "colour_matrix": (1.0,) * 9}
    checked, unusable = check_frame(replace(frame, **{name: kind(value) for name, value in values.items()}))
    assert not unusable
    assert {name: getattr(checked, name) for name in values} == values
    assert checked.status is FrameStatus.OK


@pytest.mark.parametrize(
    "changes",
    [
        {"black_level": (1023.0,) * 4},
        {"black_level": (64.0, 64.0, 64.0, 2000.0)},
        {"black_level": (math.nan,) * 4},
        {"black_level": (64.0,) * 3},
        {"black_level": 64.0},
        {"white_level": 64.0},
        {"white_level": math.nan},
        {"white_level": math.inf},
        {"data": np.zeros((48, 127), np.uint8)},
        {"data": np.zeros((47, 128), np.uint8)},
        {"data": np.zeros(48 * 128, np.uint8)},
        {"data": np.zeros((48, 128), np.uint16)},
        {"data": np.zeros((128, 48), np.uint8).T},
        {"data": np.zeros((48, 128), np.uint8)[::-1]},
        {"data": bytes(48 * 128)},
    ],
)
def test_a_frame_that_cannot_be_read_is_damaged(changes: dict[str, Any]) -> None:
    checked, unusable = check_frame(replace(frame_of(0, status=FrameStatus.GAP), **changes))
    assert checked.status == FrameStatus.GAP | FrameStatus.CORRUPTED
    assert len(unusable) == 1
    assert "damaged" in unusable[0].reason


@given(
    gains=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
    gain=st.floats(1e-3, 1e5),
    exposure_ns=st.integers(1, 10**13),
    temperature_k=st.floats(1_000, 25_000),
)
def test_a_good_frame_stays_the_same_object(
    gains: tuple[float, float], gain: float, exposure_ns: int, temperature_k: float
) -> None:
    frame = replace(
        frame_of(0), colour_gains=gains, analogue_gain=gain, exposure_ns=exposure_ns, colour_temperature_k=temperature_k
    )
    checked, unusable = check_frame(frame)
    assert checked is frame
    assert not unusable
