"""Spot checks by their definitions, and the waits of what was lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_isp.engines.backoff import Backoff
from edge_isp.engines.base import TensorInfo
from edge_isp.engines.pace import Pace
from edge_isp.engines.parity import ParityLimits, compare, describe, require_parity, wave_inputs
from edge_isp.errors import EngineError

INT8 = TensorInfo("int8", (1, 4), "int8", 0.5, 0)
FLOAT = TensorInfo("float", (1, 4), "float32", 0.0, 0)


def test_differences_of_floats_are_counted_in_255ths_of_the_range() -> None:
    reference = np.array([[0.0, 0.0, 0.0, 255.0]], np.float32)
    found = compare([reference + 2], [reference], [FLOAT])
    assert (found.rms_lsb, found.max_lsb, found.equal) == (2.0, 2.0, 0.0)


def test_all_tensors_count_together() -> None:
    zeros = np.zeros((1, 4), np.int8)
    found = compare([zeros, zeros + 2], [zeros, zeros], [INT8, INT8])
    assert found.rms_lsb == pytest.approx(2**0.5)
    assert (found.max_lsb, found.equal) == (2.0, 0.5)
    require_parity(found, ParityLimits((1.5, 2.0), (1.5, 2.0)))
    with pytest.raises(
        EngineError,
        match=r"it disagrees with the CPU: 50.0% .* 1.41 LSB rms, 2 at most; output 'int8' is off by 2.00 LSB rms",
    ):
        require_parity(found, ParityLimits((1.0,), (1.0,)))
    assert describe(found).startswith("50.0% of values equal to the CPU's")


def test_nan_is_never_parity() -> None:
    reference = np.zeros((1, 4), np.float32)
    found = compare([np.full((1, 4), np.nan, np.float32)], [reference], [FLOAT])
    with pytest.raises(EngineError, match="disagrees with the CPU"):
        require_parity(found, ParityLimits((1e9,), (1e9,)))


def test_integers_far_apart_do_not_wrap_around() -> None:
    low, high = np.full((1, 4), -128, np.int8), np.full((1, 4), 127, np.int8)
    assert compare([low], [high], [INT8]).max_lsb == 255


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_waves_use_the_whole_range(dtype: str) -> None:
    (waves,) = wave_inputs([TensorInfo("input", (1, 32, 32, 4), dtype, 0.0, 0)])
    assert (waves.shape, waves.dtype) == ((1, 32, 32, 4), np.dtype(dtype))
    limits = (0.0, 1.0) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    span = limits[1] - limits[0]
    assert np.ptp(waves.astype(float)) > 0.95 * span
    assert len(np.unique(waves)) > 200


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_waits_double_up_to_ten_minutes_and_begin_again_after_success() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    assert (backoff.is_due, backoff.wait_s) == (False, 0.0)
    backoff.lost()
    waits = [backoff.wait_s]
    due = []
    for _ in range(7):
        for step_s in (backoff.wait_s - 0.5, 0.5):
            clock.now_s += step_s
            due.append(backoff.is_due)
        backoff.tried(restored=False)
        waits.append(backoff.wait_s)
    assert due == [False, True] * 7
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600]
    clock.now_s += 600
    backoff.tried(restored=True)
    clock.now_s += 1e6
    assert not backoff.is_due  # the best runs
    backoff.lost()
    assert backoff.wait_s == 10


def test_what_is_lost_again_at_once_waits_longer() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    backoff.lost()
    clock.now_s += 10
    backoff.tried(restored=True)
    clock.now_s += 10
    backoff.lost()
    assert backoff.wait_s == 20


def test_each_output_has_its_own_limits() -> None:
    """A constant offset of a small output, which a measure over all values would not see."""
    large, small = np.zeros((1, 100, 100, 1), np.int8), np.zeros((1, 20, 20, 1), np.int8)
    tensors = [replace(INT8, name="large"), replace(INT8, name="small")]
    found = compare([large, small - 6], [large, small], tensors)
    assert found.rms_lsb < 1.5
    assert [(o.rms_lsb, o.mean_lsb) for o in found.outputs] == [(0, 0), (6, -6)]
    require_parity(found, ParityLimits((2.0, 6.5), (2.0, 6.5)))
    for limits in (ParityLimits((2.0, 5.5), (9.0,)), ParityLimits((9.0,), (2.0, 3.0))):
        with pytest.raises(EngineError, match=r"output 'small' is off by 6.00 LSB rms and -6.00 LSB in the mean"):
            require_parity(found, limits)


def test_noise_without_a_mean_may_be_larger_than_an_offset() -> None:
    noise = np.random.default_rng(0).normal(0, 5, (1, 100, 100, 1)).round().astype(np.int8)
    zeros = np.zeros_like(noise)
    limits = ParityLimits((8.0,), (1.0,))
    require_parity(compare([noise], [zeros], [INT8]), limits)
    with pytest.raises(EngineError, match="in the mean"):
        require_parity(compare([noise + 3], [zeros], [INT8]), limits)


@pytest.mark.parametrize("place", [0, 1])
def test_nan_anywhere_disagrees(place: int) -> None:
    reference = [np.ones((1, 4), np.float32), np.ones((1, 4), np.float32)]
    found = [array.copy() for array in reference]
    found[place][0, 3] = np.nan
    check = compare(found, reference, [FLOAT, FLOAT])
    assert np.isnan(check.max_lsb)
    with pytest.raises(EngineError, match="disagrees with the CPU"):
        require_parity(check, ParityLimits((1e9,), (1e9,)))


def test_the_time_to_wait_follows_the_frames() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.patience_s(0.01) == pytest.approx(0.06)  # nothing is known
    for _ in range(5):
        pace.frame()
        clock.now_s += 1 / 30
    assert pace.patience_s(0.01) == pytest.approx(0.06)
    clock.now_s += 10  # one long gap changes nothing
    pace.frame()
    assert pace.patience_s(0.01) == pytest.approx(0.06)
    for _ in range(9):
        pace.frame()
        clock.now_s += 0.2
    assert pace.patience_s(0.01) == pytest.approx(0.31)
    for _ in range(10):
        pace.frame()
        clock.now_s += 0.001
    assert pace.patience_s(0.01) == pytest.approx(0.06)
