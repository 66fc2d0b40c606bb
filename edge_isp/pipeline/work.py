"""A frame on its way through a pipeline: its lease, and what the stages have made of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.models.card import ModelCard
from edge_isp.pipeline.watchdog import Calls
from edge_isp.tasks.protocol import Task

# Of frames that no model gets to see.
DAMAGED = FrameStatus.CORRUPTED | FrameStatus.TRUNCATED


class Lease:
    """A frame that several branches read; its buffer is returned to the camera when the last one is done.

    Args:
        frame: the camera's.
        readers: number of branches.
        failed: called with the error of a frame that cannot be given back: its camera's, not the reader's.
        releases: shows since when a frame has been being given back.
    """

    def __init__(self, frame: RawFrame, readers: int, failed: Callable[[BaseException], None], releases: Calls) -> None:
        self.frame = frame
        self._readers, self._failed, self._releases = readers, failed, releases
        self._lock = threading.Lock()

    def release(self) -> None:
        """Called once by each reader, when it is done."""
        with self._lock:
            self._readers -= 1
            last = self._readers == 0
        if not last:
            return
        try:
            with self._releases.call():
                self.frame.release()
        except BaseException as error:  # noqa: BLE001 - it belongs to the camera
            self._failed(error)


@dataclass(slots=True)
class Work:
    """A frame in a branch.

    Attributes:
        lease: the frame's.
        stages_ns: see `FrameResult`.
        since_ns: when it began to wait for the next stage.
        queued_ns: see `FrameResult`.
        card: the model's for the frame's sensor, from the encoder on.
        task: the card's, from the encoder on.
        tensor: the encoded frame, from the encoder on.
        raw: a copy of the frame, from the encoder on, if a consumer keeps it.
        outputs: of the engine, from the engine on.
        delegate: what ran the model.
        leased: whether the branch still holds the lease.
    """

    lease: Lease
    stages_ns: dict[str, int]
    since_ns: int
    queued_ns: dict[str, int] = field(default_factory=dict)
    card: ModelCard | None = None
    task: Task | None = None
    tensor: NDArray[Any] | None = None
    raw: RawFrame | None = None
    outputs: list[NDArray[Any]] = field(default_factory=list)
    delegate: str = ""
    leased: bool = True

    @property
    def frame(self) -> RawFrame:
        """The frame; its data may be read only while it is `leased`."""
        return self.lease.frame
