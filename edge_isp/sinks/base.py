"""The protocol of a sink."""

from __future__ import annotations

from typing import Protocol

from edge_isp.results import FrameResult


class Sink(Protocol):
    """Takes results: files, a video, a virtual camera.

    `Pipeline.add_sink` gives each sink a thread of its own, in which `write` is called for one result after the other;
    a `write` that takes longer than a frame period loses results of a camera, and never stalls it. `write` and `close`
    are never called at the same time.

    A sink that needs the RAW frame, for example to draw detections on a picture of it, has an attribute
    `needs_raw = True`, of the class or the instance: its results then have `FrameResult.raw`, which costs a copy of
    each frame. One that needs it for detections only, since other models make a picture, has
    `needs_raw = "detections"`.

    A sink may have an attribute `policy`, the name of its queue's policy as `QueuePolicy.parse` reads it, which
    `Pipeline.add_sink` uses where it is given none; in a specification it is the key `policy`.

    A sink that goes on after failures, because its server may come back, has an attribute `lost`: the number of results
    that it was given and could not write.

    A recorder wants more than results. A sink with a method `frame_arrived(frame: RawFrame)` gets each frame exactly as
    the camera gave it, in the camera's thread, whether or not there will be a result of it; it must copy what it keeps,
    return at once, and not raise. One with a method `event(message: dict[str, Any])` gets what happens to frames and to
    the pipeline, see `edge_isp.pipeline.drops.event_message`.

    A sink that makes pictures of RAW frames has keyword-only parameters `profile` and `tone`, which `open_sink` sets
    where the specification does not.

    Another package adds a sink with an entry point in the group `edge_isp.sinks`, whose value is a class. The command
    line makes it from a specification: `NAME:ARGUMENT` is its first positional parameter, `key=value` its keyword-only
    parameters, converted as they are annotated (see `edge_isp.spec`). `edge_isp.testing.check_sink` is its conformance
    test.
    """

    def write(self, result: FrameResult) -> None:
        """Writes one result.

        Args:
            result: belongs to the sink.

        Raises:
            SinkError: it cannot be written, or the sink is closed. The error ends the stream: a sink that can go on,
                because its server comes back for example, handles the failure itself.
        """
        ...

    def close(self) -> None:
        """Completes what was written. Idempotent.

        Raises:
            SinkError: it cannot be completed.
        """
        ...
