"""Queues: order, policies, both ends."""

from __future__ import annotations

import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_isp.errors import PipelineError
from edge_isp.pipeline.options import QueuePolicy
from edge_isp.pipeline.queue import Ended, FrameQueue


def test_policies_by_name() -> None:
    for policy in (QueuePolicy.LATEST, QueuePolicy.BLOCK, QueuePolicy.buffered(2), QueuePolicy.buffered(12)):
        assert QueuePolicy.parse(str(policy)) == policy
    assert str(QueuePolicy.buffered(12)) == "buffered(12)"
    assert QueuePolicy.buffered(1) == QueuePolicy.LATEST
    for wrong in ("buffered(0)", "buffered()", "buffered", "newest", "buffered(-1)", "buffered(1.5)", "wait", ""):
        with pytest.raises(PipelineError, match=f"must be 'latest', 'block' or .*found '{re.escape(wrong)}'"):
            QueuePolicy.parse(wrong)
    with pytest.raises(PipelineError, match="capacity of a queue must be at least 1, found 0"):
        QueuePolicy.buffered(0)


@given(capacity=st.integers(1, 5), actions=st.lists(st.booleans(), max_size=40))
def test_nothing_is_lost_but_the_oldest(capacity: int, actions: list[bool]) -> None:
    """Against a list: True puts the next number, False takes one."""
    queue: FrameQueue[int] = FrameQueue(QueuePolicy.buffered(capacity))
    expected: list[int] = []
    for number, puts in enumerate(actions):
        if puts:
            expected.append(number)
            assert queue.put(number) == (expected.pop(0) if len(expected) > capacity else None)
        elif expected:
            assert queue.take(0) == expected.pop(0)
        else:
            with pytest.raises(TimeoutError):
                queue.take(0)
    assert queue.abort() == expected


def test_block_loses_nothing() -> None:
    queue: FrameQueue[int] = FrameQueue(QueuePolicy.BLOCK)

    def give() -> None:
        for number in range(1000):
            assert queue.put(number) is None
        queue.end()

    producer = threading.Thread(target=give)
    producer.start()
    taken = []
    with pytest.raises(Ended):
        while True:
            taken.append(queue.take())
    producer.join()
    assert taken == list(range(1000))


def test_what_is_there_can_be_taken_after_the_end_and_then_comes_the_error() -> None:
    queue: FrameQueue[int] = FrameQueue(QueuePolicy.buffered(2))
    queue.put(1)
    queue.end(OSError("first"))
    queue.end(None)
    assert queue.take() == 1
    for _ in range(2):
        with pytest.raises(Ended) as ended:
            queue.take()
        assert str(ended.value.error) == "first"


def test_abort_wakes_both_sides_and_gives_everything_back() -> None:
    queue: FrameQueue[int] = FrameQueue(QueuePolicy.BLOCK)
    queue.put(1)
    refused: list[int | None] = []
    producer = threading.Thread(target=lambda: refused.append(queue.put(2)))
    producer.start()
    assert queue.abort() == [1]
    producer.join()
    assert refused == [2]
    assert queue.put(3) == 3
    with pytest.raises(Ended):
        queue.take()


def test_take_wakes_up_at_the_end() -> None:
    queue: FrameQueue[int] = FrameQueue(QueuePolicy.LATEST)
    ended = []

    def take() -> None:
        try:
            queue.take()
        except Ended as end:
            ended.append(end.error)

    consumer = threading.Thread(target=take)
    consumer.start()
    queue.end()
    consumer.join()
    assert ended == [None]
