"""The fair lock of models in turn."""

from __future__ import annotations

import threading

from edge_isp.pipeline.turns import Turns


def test_a_thread_that_comes_back_at_once_does_not_overtake() -> None:
    turns, order = Turns(), []
    turns.acquire()

    def wait() -> None:
        with turns:
            order.append("waited")

    waits = threading.Thread(target=wait)
    waits.start()
    while not turns.waiting:
        threading.Event().wait(0.001)
    turns.release()
    turns.acquire()
    order.append("came back")
    turns.release()
    waits.join()
    assert order == ["waited", "came back"]
    turns.acquire()
