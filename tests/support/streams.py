"""What tests of whole streams share: cameras opened one after the other, noted events, and the account of frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from edge_isp.pipeline import Event, FramesDropped, ModelOptions, Pipeline, PipelineState, StateChange

SCRIPTED = ModelOptions(engine="scripted")


def opener(cameras: Iterable[Any]) -> Callable[[], Any]:
    """A function that opens one camera after the other.

    Args:
        cameras: in order; an exception in place of one is raised.
    """
    remaining = iter(cameras)

    def open_camera() -> Any:
        camera = next(remaining)
        if isinstance(camera, BaseException):
            raise camera
        return camera

    return open_camera


class Events:
    """Notes events; to be given as `on_event`.

    Attributes:
        all: the events in the order in which they came.
    """

    def __init__(self) -> None:
        self.all: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.all.append(event)
            self._changed.notify_all()

    @property
    def states(self) -> list[PipelineState]:
        """The states that were reported."""
        return [event.state for event in self.all if isinstance(event, StateChange)]

    @property
    def lost(self) -> list[tuple[int, int, str]]:
        """Number of the first frame, number of frames and reason of what was dropped."""
        return [(e.sequence, e.frames, str(e.cause)) for e in self.all if isinstance(e, FramesDropped)]

    def wait_for(self, state: PipelineState) -> StateChange:
        """Waits until a state was reported.

        Args:
            state: any time since the beginning.
        """

        def found() -> list[StateChange]:
            return [event for event in self.all if isinstance(event, StateChange) and event.state is state]

        with self._changed:
            assert self._changed.wait_for(found, 60), f"{state} was never reported, but {self.states}"
            return found()[0]


def check_account(pipeline: Pipeline) -> None:
    """Every frame of a pipeline that has stopped is accounted for.

    Args:
        pipeline: that has stopped.
    """
    for consumer in pipeline.consumers:
        counts = consumer.counts
        assert counts.in_flight == 0, (consumer.name, counts)
        assert counts.frames == counts.delivered + counts.skipped + sum(counts.dropped.values()), counts
