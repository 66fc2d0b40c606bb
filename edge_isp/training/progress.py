"""A training's progress on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from edge_isp.training.trainer import Progress


@contextmanager
def shown(console: Console, what: str, unit: str) -> Iterator[Callable[[Progress], None]]:
    """A bar, and what to report to.

    Args:
        console: where the bar is shown.
        what: the stage of the training.
        unit: of what validation measures ("dB"); may be empty.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[measured]}"),
    )
    with Bars(*columns, console=console) as bars:
        bar = bars.add_task(what, total=None, measured="")
        validated = ""

        def report(state: Progress) -> None:
            nonlocal validated
            if state.validation:
                validated = "  ".join(f"{name} {value:.2f} {unit}" for name, value in state.validation.items())
            measured = f"loss {state.loss:.4f}  {validated}"
            bars.update(bar, total=state.steps, completed=state.step, measured=measured)

        yield report
