"""Losses are true: which frames a V4L2 driver's numbers and time stamps show to be lost."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_isp.cameras.continuity import Continuity
from edge_isp.frame import FrameStatus

PERIOD_NS = 33_333_333


def lost(*frames: tuple[int, int]) -> int:
    """How many frames a `Continuity` takes for lost."""
    continuity, found, last = Continuity(), 0, None
    for driver, time_ns in frames:
        sequence, status = continuity.next(driver, time_ns)
        if last is not None:
            assert sequence > last
            assert (FrameStatus.GAP in status) == (sequence > last + 1)
            found += sequence - last - 1
        last = sequence
    return found


def at(*intervals: float, start: int = 100) -> list[tuple[int, int]]:
    """Frames with consecutive numbers, apart by these intervals in periods."""
    frames, time = [(start, PERIOD_NS)], 1.0
    for number, interval in enumerate(intervals):
        time += interval
        frames.append((start + number + 1, round(time * PERIOD_NS)))
    return frames


@pytest.mark.parametrize("factor", [0.5, 2, 3, 10])
def test_a_camera_that_changes_its_rate_loses_nothing(factor: float) -> None:
    """As automatic exposure does in the dark: 30 to 15 frames per second, and back."""
    assert lost(*at(*[1.0] * 30, *[factor] * 30, *[1.0] * 30)) == 0


def test_exposures_that_follow_the_light_lose_nothing() -> None:
    rng = random.Random(0)
    intervals, interval = [], 1.0
    for _ in range(500):
        interval = min(max(interval * rng.uniform(0.7, 1.4), 1.0), 4.0)
        intervals.append(interval)
    assert lost(*at(*intervals)) == 0


@pytest.mark.parametrize("pause_periods", [300, 299.5, 30, 2.5])
def test_bursts_lose_nothing(pause_periods: float) -> None:
    """A trigger asks for 30 frames, ten seconds apart, or less."""
    assert lost(*at(*([*[1.0] * 29, pause_periods] * 5))) == 0


def test_one_pause_loses_nothing() -> None:
    """The system was busy, or the sensor was: the driver's number says that there was no other frame."""
    assert lost(*at(*[1.0] * 30, 2.0, *[1.0] * 30)) == 0


@given(holes=st.lists(st.integers(1, 1000), min_size=1, max_size=8), noise=st.floats(0, 0.4), seed=st.integers(0, 99))
def test_a_driver_that_counts_is_believed(holes: list[int], noise: float, seed: int) -> None:
    rng = random.Random(seed)
    frames, number = [], 0
    for hole in holes:
        for _ in range(30):
            frames.append((number, round((number + 1 + rng.uniform(0, noise)) * PERIOD_NS)))
            number += 1
        number += hole
    assert lost(*frames) == sum(holes[:-1])


@pytest.mark.parametrize("driver", ["delivered", "constant", "two numbers"])
def test_a_driver_that_does_not_count_what_is_lost_is_found_out(driver: str) -> None:
    """Regular losses with the rhythm before and after them: from the fourth on, the clock is believed."""
    sensor = [n for n in range(400) if n % 20 != 10]
    numbers = {"delivered": range(400), "constant": [7] * 400, "two numbers": [0, 1] * 200}[driver]
    found = lost(*((number, (n + 1) * PERIOD_NS) for number, n in zip(numbers, sensor, strict=False)))
    assert 15 <= found <= 20
    if driver != "delivered":
        assert found == 20


@pytest.mark.parametrize("jump", [10**6, 2**31 - 1, 2**31, 2**31 + 1, 3_999_999_997, 2**32 - 1])
@pytest.mark.parametrize("stays", [False, True])
def test_a_number_that_jumps_by_millions_is_a_bad_number(jump: int, stays: bool) -> None:
    numbers = [*range(40), *((40 + jump + n) % 2**32 for n in range(1 if not stays else 40))]
    numbers += [] if stays else range(41, 80)
    assert lost(*((number, (n + 1) * PERIOD_NS) for n, number in enumerate(numbers))) == 0


def test_a_number_that_jumps_further_than_time_allows() -> None:
    """50,000 frames in one period, and 100 of them as well where the rhythm is known."""
    for jump in (50_000, 5_000, 100):
        numbers = [*range(40), *range(40 + jump, 80 + jump)]
        assert lost(*((number, (n + 1) * PERIOD_NS) for n, number in enumerate(numbers))) == (
            0 if jump > 1000 else jump
        )


def test_a_counter_that_begins_anew() -> None:
    numbers = [*range(100, 140), *range(40)]
    assert lost(*((number, (n + 1) * PERIOD_NS) for n, number in enumerate(numbers))) == 0


def test_a_counter_that_overflows() -> None:
    start = 2**32 - 20
    assert lost(*(((start + n) % 2**32, (n + 1) * PERIOD_NS) for n in range(40) if n not in (19, 20, 21))) == 3


@given(steps=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(-(10**12), 10**12)), min_size=1, max_size=200))
def test_whatever_a_driver_says_numbers_increase_and_losses_are_few(steps: list[tuple[int, int]]) -> None:
    continuity, last = Continuity(), None
    for driver, time_ns in steps:
        sequence, status = continuity.next(driver, time_ns)
        if last is not None:
            assert last < sequence <= last + 1_000_000
            assert (FrameStatus.GAP in status) == (sequence != last + 1)
        last = sequence
