"""When a delegate that was lost is tried again."""

from __future__ import annotations

from collections.abc import Callable

FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 600.0


class Backoff:
    """Waits after a loss: 10 s, then twice as long with every failure, up to ten minutes.

    Args:
        clock: the time in seconds.

    Attributes:
        wait_s: the wait that was chosen last; 0 before the first loss.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.wait_s = 0.0
        self._due_at_s, self._restored_at_s = float("inf"), 0.0

    @property
    def is_due(self) -> bool:
        """Whether the wait is over."""
        return self._clock() >= self._due_at_s

    def lost(self) -> None:
        """What worked is lost. After it has worked for longer than its last wait, waits start from the first again."""
        has_proved_itself = self._clock() - self._restored_at_s > self.wait_s
        self._wait(FIRST_WAIT_S if has_proved_itself or not self.wait_s else 2 * self.wait_s)

    def tried(self, *, restored: bool, best: bool) -> None:
        """What was lost has been tried again.

        Args:
            restored: whether anything was restored.
            best: whether the best there is runs now, so that there is nothing more to try.
        """
        if best:
            self._due_at_s = float("inf")
        else:
            self._wait(2 * self.wait_s)
        if restored:
            self._restored_at_s = self._clock()

    def _wait(self, duration_s: float) -> None:
        self.wait_s = min(duration_s, LONGEST_WAIT_S)
        self._due_at_s = self._clock() + self.wait_s
