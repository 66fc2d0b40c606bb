"""What is measured and for how long.

Every benchmark follows one method. At least `warmup` frames and `warmup_s` seconds are left out; then frames are
measured until there are enough of them and enough time has passed. One clock, CLOCK_MONOTONIC, times everything. A rate
is (n - 1) / (last - first). Percentiles are interpolated linearly. What holds only for the first frame is reported
apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edge_isp.engines.candidates import Delegation
from edge_isp.errors import BenchError
from edge_isp.pipeline.options import ModelOptions, QueuePolicy


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        warmup: the least number of frames that are left out at the beginning.
        warmup_s: the least number of seconds that are left out at the beginning.
        frames: the least number of frames that are measured.
        duration_s: the least number of seconds that are measured.
        pinned: the CPUs to run on; None for all.
        seed: of random numbers.
    """

    warmup: int = 30
    warmup_s: float = 2.0
    frames: int = 1000
    duration_s: float = 10.0
    pinned: tuple[int, ...] | None = None
    seed: int = 0

    def is_warm(self, frames: int, elapsed_ns: int) -> bool:
        """Whether the warm-up is over.

        Args:
            frames: the number of frames since the beginning.
            elapsed_ns: nanoseconds since the beginning.
        """
        return frames >= self.warmup and elapsed_ns >= self.warmup_s * 1e9

    def is_complete(self, frames: int, elapsed_ns: int) -> bool:
        """Whether enough has been measured.

        Args:
            frames: the number of frames since the warm-up.
            elapsed_ns: nanoseconds since the warm-up.
        """
        return frames >= self.frames and elapsed_ns >= self.duration_s * 1e9


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        model: the name of a shipped model or the path of one.
        engine: the name of the engine; None for the default of the model's file.
        threads: threads of the engine; None for one fewer than there are cores.
        policy: the policy of the pipeline's queues; None for the default of the camera.
        delegate: what may run the model, see `Delegation`.
        python: the path of another Python, for engines whose packages this one does not have.
    """

    model: str = "rfdcsanet-s"
    engine: str | None = None
    threads: int | None = None
    policy: str | None = None
    delegate: str = "auto"
    python: str | None = None

    @property
    def model_options(self) -> ModelOptions:
        """The model as a pipeline takes it."""
        return ModelOptions(
            self.model,
            engine=self.engine,
            threads=self.threads,
            delegation=Delegation(self.delegate, python=self.python),
        )

    @property
    def queue_policy(self) -> QueuePolicy | None:
        """The policy as a pipeline takes it.

        Raises:
            PipelineError: there is no such policy.
        """
        return QueuePolicy.parse(self.policy) if self.policy else None


@contextmanager
def pinned(cpus: tuple[int, ...] | None) -> Iterator[None]:
    """Runs the body on some CPUs only.

    Args:
        cpus: their numbers; None for all.

    Raises:
        BenchError: there are no such CPUs.
    """
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError) as error:
        allowed = ", ".join(map(str, sorted(before)))
        raise BenchError(f"cannot run on CPUs {cpus}: this process may use {allowed}") from error
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
