"""Runs every kernel on buffers whose neighbouring pages cannot be touched; a kernel that strays ends the process.

    python -m tests.kernels.guarded calls | arguments | trespass

`calls` makes all valid calls, `arguments` those with a wrong argument, and prints each that is not refused by a
ValueError that names the argument. `trespass` touches such a page itself, to show that the guard works.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.damage import damaged_calls, outputs_of, row_ranges
from tests.kernels.kernel_cases import calls, public_kernels
from tests.kernels.wrong_values import wrong_values

PROT_NONE = 0
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_kept: list[Any] = []


def guarded(shape: tuple[int, ...], dtype: Any, at_end: bool) -> NDArray[Any]:
    """An array that touches the guard page after it, or the one before it; filled with random bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pages = -(-size // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        if _libc.mprotect(begin + page * mmap.PAGESIZE, mmap.PAGESIZE, PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    _kept.append(memory)
    offset = mmap.PAGESIZE + (pages * mmap.PAGESIZE - size if at_end else 0)
    array = np.frombuffer(memory, np.uint8, size, offset)
    array[:] = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    typed: NDArray[Any] = array.view(dtype).reshape(shape)
    return typed


def main(task: str) -> None:
    if task == "trespass":
        array = guarded((5,), np.uint8, True)
        ctypes.string_at(array.ctypes.data, 6)
        return
    for name, kernel in public_kernels().items():
        print(name, file=sys.stderr, flush=True)  # where it was, if the process ends
        if task == "calls":
            run_valid_calls(name, kernel)
        else:
            run_wrong_calls(name, kernel)
        _kept.clear()


def run_valid_calls(name: str, kernel: Callable[..., Any]) -> None:
    for at_end in (False, True):
        allocate = partial(guarded, at_end=at_end)
        for arguments in calls(name, allocate, at_end=at_end):
            kernel(**arguments)
            if len(_kept) > 1000:
                _kept.clear()
        for is_right, arguments in row_ranges(name, kernel, allocate):
            if is_right:
                with suppress(ValueError) if name == "statistics.statistics" else nullcontext():  # of no rows
                    kernel(**arguments)


def run_wrong_calls(name: str, kernel: Callable[..., Any]) -> None:
    allocate = partial(guarded, at_end=True)
    for what, may_work, arguments in damaged_calls(name, allocate):
        expect_refusal(name, kernel, what, arguments, may_work=may_work)
    for is_right, arguments in row_ranges(name, kernel, allocate):
        if not is_right:
            expect_refusal(name, kernel, f"rows: {arguments['rows']}", arguments)
    for what, change in wrong_values(name):
        arguments = next(islice(calls(name, allocate, at_end=True), 1))
        expect_refusal(name, kernel, what, arguments | change(arguments))


def expect_refusal(
    name: str, kernel: Callable[..., Any], what: str, arguments: dict[str, Any], *, may_work: bool = False
) -> None:
    """Prints a call that is not refused as it should be: by a ValueError that names the argument.

    One array may have the wrong shape because another has: then the message may name either.
    """
    print(f"  {what}", file=sys.stderr, flush=True)
    argument = what.split(":")[0].split(".")[0]
    names = {argument} | (set(arguments) if may_work else set())
    before = {output: arguments[output].tobytes() for output in outputs_of(name) & _array_names(arguments)}
    try:
        kernel(**arguments)
    except ValueError as error:
        if not any(part in str(error) for part in names):
            print(f"{name}, {what}: does not name the argument: {error}")
        if any(arguments[output].tobytes() != content for output, content in before.items()):
            print(f"{name}, {what}: was refused after writing")
    except Exception as error:  # noqa: BLE001, any other one is what is looked for
        print(f"{name}, {what}: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
    else:
        if not may_work:
            print(f"{name}, {what}: was not refused")


def _array_names(arguments: dict[str, Any]) -> set[str]:
    return {key for key, value in arguments.items() if isinstance(value, np.ndarray)}


if __name__ == "__main__":
    main(sys.argv[1])
