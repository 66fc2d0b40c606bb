"""Hand-overs: order, policies, both ends."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_isp.errors import PipelineError
from edge_isp.pipeline.queue import Ended, HandOver, Policy


def test_policies_by_name() -> None:
    assert Policy.parse("latest") == Policy(1, waits=False)
    assert Policy.parse("wait") == Policy(1, waits=True)
    assert Policy.parse("queue(12)") == Policy(12, waits=False)
    for wrong in ("queue(0)", "queue()", "queue", "newest", "queue(-1)", "queue(1.5)"):
        with pytest.raises(PipelineError, match="must be 'latest', 'wait' or"):
            Policy.parse(wrong)


@given(places=st.integers(1, 5), actions=st.lists(st.booleans(), max_size=40))
def test_nothing_is_lost_but_the_oldest(places: int, actions: list[bool]) -> None:
    """Against a list: True puts the next number, False takes one."""
    hand_over: HandOver[int] = HandOver(Policy(places, waits=False))
    expected: list[int] = []
    for number, puts in enumerate(actions):
        if puts:
            expected.append(number)
            assert hand_over.put(number) == (expected.pop(0) if len(expected) > places else None)
        elif expected:
            assert hand_over.take(0) == expected.pop(0)
        else:
            with pytest.raises(TimeoutError):
                hand_over.take(0)
    assert hand_over.abort() == expected


def test_wait_loses_nothing() -> None:
    hand_over: HandOver[int] = HandOver(Policy.parse("wait"))

    def give() -> None:
        for number in range(1000):
            assert hand_over.put(number) is None
        hand_over.end()

    giver = threading.Thread(target=give)
    giver.start()
    taken = []
    with pytest.raises(Ended):
        while True:
            taken.append(hand_over.take())
    giver.join()
    assert taken == list(range(1000))


def test_what_is_there_can_be_taken_after_the_end_and_then_comes_the_error() -> None:
    hand_over: HandOver[int] = HandOver(Policy.parse("queue(2)"))
    hand_over.put(1)
    hand_over.end(OSError("first"))
    hand_over.end(None)
    assert hand_over.take() == 1
    for _ in range(2):
        with pytest.raises(Ended) as ended:
            hand_over.take()
        assert str(ended.value.error) == "first"


def test_abort_wakes_both_sides_and_gives_everything_back() -> None:
    hand_over: HandOver[int] = HandOver(Policy.parse("wait"))
    hand_over.put(1)
    refused: list[int | None] = []
    giver = threading.Thread(target=lambda: refused.append(hand_over.put(2)))
    giver.start()
    assert hand_over.abort() == [1]
    giver.join()
    assert refused == [2]
    assert hand_over.put(3) == 3
    with pytest.raises(Ended):
        hand_over.take()


def test_take_wakes_up_at_the_end() -> None:
    hand_over: HandOver[int] = HandOver(Policy.parse("latest"))
    ended = []

    def take() -> None:
        try:
            hand_over.take()
        except Ended as end:
            ended.append(end.error)

    taker = threading.Thread(target=take)
    taker.start()
    hand_over.end()
    taker.join()
    assert ended == [None]
