"""Which frames are counted as lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_isp.cameras.continuity import Continuity
from edge_isp.frame import FrameStatus

PERIOD_NS = 33_333_333


def numbers(*frames: tuple[int, int]) -> list[tuple[int, FrameStatus]]:
    continuity = Continuity()
    return [continuity.next(sequence, time_ns) for sequence, time_ns in frames]


@given(
    lost=st.sets(st.integers(10, 199), max_size=40),
    counts=st.booleans(),
    jitter=st.lists(st.floats(-0.05, 0.05), min_size=200, max_size=200),
    start=st.integers(0, 2**32 - 1),
)
def test_every_lost_frame_is_missing(lost: set[int], counts: bool, jitter: list[float], start: int) -> None:
    delivered = [number for number in range(200) if number not in lost]
    continuity = Continuity()
    last = None
    for count, number in enumerate(delivered):
        driver = (start + (number if counts else count)) % 2**32
        sequence, status = continuity.next(driver, round((number + jitter[number] + 1) * PERIOD_NS))
        if last is not None:
            if counts:
                assert sequence - last[1] == number - last[0]
            else:
                # Where so many are lost that the rhythm cannot be seen, the driver is believed; never is one invented.
                assert 1 <= sequence - last[1] <= number - last[0]
            assert (FrameStatus.GAP in status) == (sequence - last[1] > 1)
        last = (number, sequence)


def test_a_driver_that_does_not_count() -> None:
    found = numbers(*[(0, number * PERIOD_NS) for number in [*range(20), 22, 23]])
    assert [sequence for sequence, _ in found] == [*range(20), 22, 23]


def test_irregular_time_stamps_are_not_believed() -> None:
    times_ns = [number * PERIOD_NS + (number % 2) * PERIOD_NS // 2 for number in range(60)]
    assert all(status is FrameStatus.OK for _, status in numbers(*enumerate(times_ns)))


def test_a_camera_that_becomes_slower_is_not_taken_for_one_that_loses() -> None:
    times_ns = [*range(0, 30 * PERIOD_NS, PERIOD_NS)]
    times_ns += [times_ns[-1] + (2 * number + 2) * PERIOD_NS for number in range(60)]
    statuses = [status for _, status in numbers(*enumerate(times_ns))]
    assert statuses[-40:] == [FrameStatus.OK] * 40
    continuity = Continuity()
    for number in range(30):
        continuity.next(number, number * PERIOD_NS)
    continuity.restart_period(2 * PERIOD_NS)  # as `control(fps=...)` does
    assert all(continuity.next(30 + n, (31 + 2 * n) * PERIOD_NS)[1] is FrameStatus.OK for n in range(30))


def test_small_changes_of_the_frame_rate_keep_the_period() -> None:
    """As a `PhaseLoop` makes them with every frame: frames that a wrong counter leaves out are found all the same."""
    continuity, now_ns, gaps = Continuity(), 0, 0
    for number in range(120):
        now_ns += PERIOD_NS * (2 if number in (40, 60, 80, 100) else 1)
        gaps += FrameStatus.GAP in continuity.next(number, now_ns)[1]
        continuity.restart_period(PERIOD_NS + (number % 3 - 1) * PERIOD_NS // 200)
    assert gaps >= 1


def test_bad_time_stamps_say_nothing() -> None:
    continuity = Continuity()
    for number in range(20):
        continuity.next(number, (number + 1) * PERIOD_NS)
    assert continuity.next(20, 0) == (20, FrameStatus.BAD_TIMESTAMP)
    assert continuity.next(21, 22 * PERIOD_NS) == (21, FrameStatus.OK)
    assert continuity.next(24, 25 * PERIOD_NS) == (24, FrameStatus.GAP)


@settings(max_examples=25, deadline=None)
@given(
    bursts=st.lists(st.integers(20, 1980), min_size=4, max_size=30, unique=True),
    lengths=st.lists(st.integers(1, 9), min_size=30, max_size=30),
    lost=st.sets(st.integers(10, 1999), max_size=40),
)
def test_a_late_stamp_is_no_lost_frame(bursts: list[int], lengths: list[int], lost: set[int]) -> None:
    """On a loaded machine stamps come a whole period late for some frames, and then on time again."""
    late = {number for first, length in zip(bursts, lengths, strict=False) for number in range(first, first + length)}
    continuity, found = Continuity(), []
    for number in (number for number in range(2000) if number not in lost):
        time_ns = (number + (number in late)) * PERIOD_NS + number  # never the same twice
        found.append((continuity.next(number, time_ns)[0], number))
    assert [ours for ours, _ in found] == [drivers for _, drivers in found]
