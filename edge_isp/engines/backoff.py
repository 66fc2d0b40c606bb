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

    def begin(self) -> None:
        """What was lost is being tried again, so that nothing is due."""
        self._due_at_s = float("inf")

    def tried(self, *, restored: bool) -> None:
        """What was lost has been tried again.

        Args:
            restored: whether it works.
        """
        if restored:
            self._due_at_s, self._restored_at_s = float("inf"), self._clock()
        else:
            self._wait(2 * self.wait_s)

    def _wait(self, duration_s: float) -> None:
        self.wait_s = min(duration_s, LONGEST_WAIT_S)
        self._due_at_s = self._clock() + self.wait_s
