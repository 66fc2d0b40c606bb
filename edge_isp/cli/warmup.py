"""`edge-isp warmup`, which compiles the kernels, and how every command shows that kernels are compiled."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from edge_isp.kernels.cache import cache_folder
from edge_isp.kernels.progress import Compilation, set_listener

if TYPE_CHECKING:
    from rich.progress import Progress


def warmup() -> None:
    """Compile all kernels now, so that no later start has to.

    They are kept in the first of: $EDGE_ISP_CACHE, systemd's $CACHE_DIRECTORY, $XDG_CACHE_HOME/edge_isp,
    ~/.cache/edge_isp.
    """
    from edge_isp.kernels.warmup import compile_kernels

    begin_s = time.perf_counter()
    compiled, loaded = compile_kernels()
    took_s = time.perf_counter() - begin_s
    print(f"{compiled} functions compiled, {loaded} from the cache, {took_s:.1f} s; cache: {cache_folder()}")


def show_compilation() -> None:
    """Shows compilations on standard error from now on: as a bar on a terminal, as a line elsewhere."""
    set_listener(_Bar() if sys.stderr.isatty() else _Line())


class _Line:
    """A line when a compilation begins."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, compilation: Compilation) -> None:
        if not self._said:
            print(f"edge-isp: compiling {compilation.total} kernels, once; this may take a minute", file=sys.stderr)
        self._said = compilation.done < compilation.total


class _Bar:
    """A bar with the kernels that are ready and the time, which goes when all are."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __call__(self, compilation: Compilation) -> None:
        if self._progress is None:
            self._progress = _progress()
            self._progress.add_task("", total=compilation.total)
            self._progress.start()
        (task,) = self._progress.task_ids
        self._progress.update(task, completed=compilation.done, description=compilation.kernel)
        if compilation.done == compilation.total:
            self._progress.stop()
            self._progress = None


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("compiling kernels, once"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )
