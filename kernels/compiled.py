"""The decorator of every kernel: compiled by numba, without Python's lock, kept in a cache of our own.

numba's own cache knows one source file for each function, so that an edited helper (`rows.py`) leaves the old machine
code of its callers in use; it writes beside the modules; and a damaged file of it is an exception at every start.
`KernelCache` takes its place. What it needs of numba's private interface is all in this file:

* `Dispatcher._cache` with `load_overload` and `save_overload`,
* `CompileResult._reduce` and `_rebuild`, which numba's own cache calls to pickle machine code,
* `numba.core.serialize.dumps`, the pickle that goes with them.

All four are the same in numba 0.59 to 0.68.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import llvmlite
import numba
from numba import njit
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from edge_isp.kernels.cache import Store

F = TypeVar("F", bound=Callable[..., Any])

_log = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent

# Settings of numba that change the machine code.
_SETTINGS = ("NUMBA_OPT", "NUMBA_BOUNDSCHECK", "NUMBA_DEBUGINFO")

# Called with no argument whenever a kernel is not in the cache and is about to be compiled (`warmup`).
compile_listeners: list[Callable[[], None]] = []


@overload
def kernel(function: F) -> F: ...
@overload
def kernel(*, inline: Literal["never", "always"]) -> Callable[[F], F]: ...
def kernel(function: F | None = None, *, inline: Literal["never", "always"] = "never") -> Any:
    """Compiles a function when it is first called.

    Args:
        function: what to compile.
        inline: "always" puts its body in the place of each call.
    """

    def decorate(function: F) -> Any:
        compiled: Any = njit(nogil=True, inline=inline)(function)
        # With NUMBA_DISABLE_JIT it is the function itself. The cache's key covers the sources in this folder alone.
        if compiled is not function and Path(function.__code__.co_filename).parent == _FOLDER:
            compiled._cache = KernelCache(function)  # noqa: SLF001
        return compiled

    return decorate if function is None else decorate(function)


class KernelCache(NullCache):  # type: ignore[misc]
    """What numba asks for the machine code of one kernel, before it compiles and after.

    Args:
        function: the kernel in Python.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"

    def load_overload(self, signature: Any, target_context: Any) -> CompileResult | None:
        """The kernel for a signature, or None where it has to be compiled."""
        target_context.refresh()
        store = _store(target_context.codegen().magic_tuple())
        data = store.read(self._file(signature)) if store and _sources_unchanged() else None
        if data is not None:
            return CompileResult._rebuild(target_context, *pickle.loads(data))  # noqa: SLF001
        _log.debug("compiling %s for %s", self._name, signature)
        for listener in compile_listeners:
            listener()
        return None

    def save_overload(self, signature: Any, result: CompileResult) -> None:
        """Keeps what was compiled."""
        store = _store(result.codegen.magic_tuple())
        # Code with addresses of this process inside is of no use to another.
        if store and _sources_unchanged() and not result.library.has_dynamic_globals:
            store.write(self._file(signature), dumps(result._reduce()))  # noqa: SLF001

    def _file(self, signature: Any) -> str:
        return f"{self._name}-{hashlib.sha256(str(signature).encode()).hexdigest()[:16]}"


@cache
def _store(processor: tuple[str, ...]) -> Store | None:
    """Where this process keeps machine code for a processor; None where there are no sources to tell versions apart."""
    if _SOURCES is None:
        return None
    settings = [os.environ.get(name, "") for name in _SETTINGS]
    versions = (numba.__version__, llvmlite.__version__, sys.version, sys.implementation.cache_tag)
    return Store.open(hashlib.sha256(repr((_SOURCES, versions, processor, settings)).encode()).hexdigest()[:32])


def source_hash(folder: Path = _FOLDER) -> str | None:
    """A hash of every source file in a folder; None where they are not there, as in a frozen program.

    Args:
        folder: of the kernels.
    """
    files = sorted(folder.glob("*.py"))
    if not files:
        return None
    found = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        found.update(f"{file.name} {len(content)} ".encode() + content)
    return found.hexdigest()


_SOURCES = source_hash()


def _sources_unchanged() -> bool:
    """False after an update or an edit under a running process, whose kernels belong to the sources it imported."""
    return source_hash() == _SOURCES
