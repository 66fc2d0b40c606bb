"""Tables for people, 80 columns wide at most where their content allows it."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table


def figures_table(title: str, first: str, *figures: str) -> Table:
    """A table of figures.

    Args:
        title: above it.
        first: header of the first column, which names each row.
        *figures: headers of the columns of figures, which are written against their right edge.
    """
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, overflow="fold")
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    return table


def text_table(title: str, *columns: str) -> Table:
    """A table of words; long ones continue on the next line."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def plain_console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is: brackets are no markup, numbers are not coloured."""
    return Console(stderr=stderr, markup=False, highlight=False)
