"""How much may go wrong before a pipeline ends, and how it tries again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """How much may go wrong before a pipeline ends, and how it tries again.

    Attributes:
        stall_s: a camera that delivers nothing for this time has failed; a stage that takes twice as long for one
            piece of work is stalled.
        prepare_s: opening a camera, making a model ready and waiting for an engine that another model holds may take
            this long; then the stage is stalled.
        first_wait_s: seconds before a failed camera is opened again for the first time; doubled from try to try.
        longest_wait_s: the longest of these waits, in seconds.
        attempts: how many times in succession to open the camera with no frame in between; None is unlimited.
        engine_errors: how many frames in succession the engine may fail on; None is unlimited. For cameras only: a
            recording must not be skipped over, so its first engine error ends the pipeline.
    """

    stall_s: float = 5.0
    prepare_s: float = 300.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    attempts: int | None = None
    engine_errors: int | None = 30
