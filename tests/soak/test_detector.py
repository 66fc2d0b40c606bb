"""The soak of `detector.py`, for some seconds: counts, file descriptors and threads."""

from __future__ import annotations

from dataclasses import replace

from tests.soak.detector import Held, Soak, soak


def test_a_short_soak() -> None:
    seen = soak(warm_up_s=3, period_s=2, periods=3, width=640, height=480)
    problems = list(seen.problems())
    # Memory is not judged: it settles within the first minute.
    assert [problem for problem in problems if not problem.startswith("memory")] == []


def test_problems_are_found() -> None:
    seen = soak(warm_up_s=1, period_s=1, periods=1, width=640, height=480)
    grown = Held(seen.held[0].memory_bytes + 3_000_000, seen.held[0].descriptors + 1, seen.held[0].threads + 1)
    spoilt: list[tuple[Soak, str]] = [
        (replace(seen, held=[*seen.held, grown]), "memory grew"),
        (replace(seen, held=[*seen.held, grown]), "descriptors while it ran"),
        (replace(seen, held=[*seen.held, grown]), "threads while it ran"),
        (replace(seen, after=grown, before=seen.held[0]), "descriptors left"),
        (replace(seen, delivered=seen.delivered + 1), "results were read"),
        (replace(seen, reported=seen.reported + 1), "lost frames were reported"),
        (replace(seen, counts=replace(seen.counts, frames=seen.counts.frames + 1)), "not accounted for"),
    ]
    for soaked, expected in spoilt:
        assert any(expected in problem for problem in soaked.problems()), expected
