"""Which pictures of a stream are kept: every Nth, one per interval, some hours of the day."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path

import pytest

from edge_isp.errors import SinkError
from edge_isp.sinks.schedule import Schedule
from edge_isp.sinks.spec import open_sink
from edge_isp.testing.sink import picture_result

SECOND_NS = 10**9


def taken(schedule: Schedule, stamps_s: list[float]) -> list[float]:
    return [stamp for stamp in stamps_s if schedule.takes(round(stamp * SECOND_NS))]


def test_every_nth() -> None:
    assert taken(Schedule(every=3), [0, 1, 2, 3, 4, 5, 6]) == [0, 3, 6]


def test_an_interval_keeps_its_grid_however_late_the_frames_are() -> None:
    stamps = [100 + 0.7 * number for number in range(60)]
    found = taken(Schedule(interval_s=2.0), stamps)
    assert len(found) == 21  # 41.3 s of 2 s each, and the first
    assert all(0 <= (stamp - 100) % 2 < 0.7 for stamp in found)
    assert taken(Schedule(interval_s=2.0), [0, 0.1, 9, 9.5, 10, 10.5]) == [0, 9, 10]


def test_a_clock_that_begins_anew_does_not_end_the_time_lapse() -> None:
    assert taken(Schedule(interval_s=10), [1000, 1005, 1010, 3, 8, 13]) == [1000, 1010, 3, 13]


def test_an_interval_is_a_time() -> None:
    assert taken(Schedule(interval_s=1e-300), [0, 0.1, 0.2]) == [0, 0.1, 0.2]
    for interval_s in (math.inf, math.nan):
        with pytest.raises(SinkError, match="interval_s must be at least 0, found"):
            Schedule(interval_s=interval_s)


@pytest.mark.parametrize(
    ("daily", "hours"),
    [("06:00-20:00", range(6, 20)), ("22:00-06:00", [*range(6), 22, 23]), ("00:00-23:59", range(24))],
)
def test_hours_of_the_day(daily: str, hours: object) -> None:
    now = datetime(2026, 11, 28)
    schedule = Schedule(daily=daily, now=lambda: now)
    found = []
    for hour in range(24):
        now = datetime(2026, 11, 28, hour)
        if schedule.takes(hour):
            found.append(hour)
    assert found == list(hours)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("every=0", "every must be at least 1, found 0"),
        ("interval_s=-1", "interval_s must be at least 0, found -1"),
        ("daily=6-20", "daily must be HH:MM-HH:MM, such as 06:30-20:00; found '6-20'"),
        ("daily=24:00-25:00", "daily must be HH:MM-HH:MM"),
        ("daily=06:00-06:00", "two different times"),
        ("evry=2", "unknown evry; did you mean 'every'"),
    ],
)
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_schedule_out_of_range_is_one_error(kind: str, settings: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=message):
        open_sink(f"{kind}:{tmp_path / 'new'},{settings}")
    assert not (tmp_path / "new").exists()


def test_every_thirtieth_picture_as_jpeg(tmp_path: Path) -> None:
    sink = open_sink(f"jpeg:{tmp_path},quality=90,every=30")
    for number in range(61):
        sink.write(picture_result(number))
    assert [path.stem[-6:] for path in sorted(tmp_path.iterdir())] == ["000000", "000030", "000060"]


def test_time_lapse_as_png(tmp_path: Path) -> None:
    sink = open_sink(f"png:{tmp_path},interval_s=0.1")  # frames come every 33.3 ms
    for number in range(9):
        sink.write(picture_result(number))
    assert [path.stem[-6:] for path in sorted(tmp_path.iterdir())] == ["000000", "000003", "000006"]
