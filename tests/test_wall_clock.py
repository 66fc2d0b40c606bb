"""From CLOCK_MONOTONIC to the wall's clock: the difference, its drift and its steps."""

from __future__ import annotations

import time

from edge_isp.wall_clock import WallClock

EPOCH_NS = 1_700_000_000_000_000_000
HOUR_NS = 3600 * 10**9


class Clocks:
    """A monotonic clock, and one that is set and drifts against it."""

    def __init__(self) -> None:
        self.now_ns, self.offset_ns, self.drift = 10**9, EPOCH_NS, 0.0
        self.reading_takes_ns = 200

    def monotonic_ns(self) -> int:
        self.now_ns += self.reading_takes_ns
        return self.now_ns

    def wall_ns(self) -> int:
        self.now_ns += 200
        return self.now_ns + self.offset_ns + round(self.drift * self.now_ns)


def test_of_the_system_it_is_the_time_of_day() -> None:
    clock = WallClock()
    for _ in range(100):
        before = time.time_ns()
        converted = clock.convert_ns(time.monotonic_ns())
        after = time.time_ns()
        # Reading the clocks takes some of it; another process may take the core.
        assert before - 100_000 <= converted <= after + 100_000
    assert clock.stepped_ns == 0


def test_an_interrupted_measurement_moves_nothing() -> None:
    clocks = Clocks()
    clock = WallClock(clocks.wall_ns, clocks.monotonic_ns)
    held = clock.offset_ns()
    clocks.reading_takes_ns = 50_000_000  # the thread lost its core between two readings
    assert clock.offset_ns() == held
    assert abs(held - EPOCH_NS) <= 200


def test_drift_is_followed_and_is_no_step() -> None:
    clocks = Clocks()
    clocks.drift = 200e-6
    clock = WallClock(clocks.wall_ns, clocks.monotonic_ns)
    for _ in range(1000):
        clocks.now_ns += 10**9
        expected = clocks.offset_ns + round(clocks.drift * clocks.now_ns)
        assert abs(clock.offset_ns() - expected) < 100_000
    assert clock.stepped_ns == 0
    clocks.now_ns += 24 * HOUR_NS  # nobody has asked for a day
    clock.offset_ns()
    assert clock.stepped_ns == 0


def test_steps_are_found_and_added_up() -> None:
    clocks = Clocks()
    clock = WallClock(clocks.wall_ns, clocks.monotonic_ns)
    clock.offset_ns()
    for step_ns in (HOUR_NS, -2 * HOUR_NS, 20_000_000, -(10**15)):
        before = clock.stepped_ns
        clocks.offset_ns += step_ns
        assert abs(clock.convert_ns(0) - clocks.offset_ns) <= 1000
        assert abs(clock.stepped_ns - before - step_ns) <= 1000
