"""Calls of kernels with one argument that is wrong, made from the kernel's signature."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kernels.kernel_cases import Allocate, Arguments, calls

# Parameters that take numbers in any form.
ARRAY_LIKE = {"matrix"}
# Written, by name of the parameter.
OUTPUTS = {"out"}

WRONG_ROWS: tuple[Any, ...] = ((0, 10**9), (-1, 1), (2, 1), (0, 1, 1), (0,), 1, ("a", "b"), (0.5, 1), (None, 1), "ab")

# The place of an array within the arguments: the parameter, then indices and fields.
Path = tuple[Any, ...]


def outputs_of(kernel: str) -> set[str]:
    return OUTPUTS


def damaged_calls(kernel: str, allocate: Allocate) -> Iterator[tuple[str, bool, Arguments]]:
    """What is wrong, whether the kernel may take it all the same (without straying), and the arguments.

    Args:
        kernel: a key of `public_kernels()`.
        allocate: makes the arrays.
    """

    def fresh() -> Arguments:
        return next(islice(calls(kernel, allocate, at_end=True), 1))

    for path, array in _arrays(fresh()):
        where = ".".join(str(part) for part in path)
        for what, may_work, change in _damages(array, allocate, exact=path[0] not in ARRAY_LIKE):
            arguments = fresh()
            yield f"{where}: {what}", may_work, _with(arguments, path, change(_at(arguments, path)))
        if path[0] in outputs_of(kernel):
            arguments = fresh()
            _at(arguments, path).flags.writeable = False
            yield f"{where}: read-only", False, arguments
            for other, _ in _arrays(fresh()):
                if other != path and other[0] not in ARRAY_LIKE:
                    arguments = _overlapping(fresh(), path, other, allocate)
                    yield f"{where}: overlaps {'.'.join(str(part) for part in other)}", False, arguments


def row_ranges(kernel: str, function: Callable[..., Any], allocate: Allocate) -> Iterator[tuple[bool, Arguments]]:
    """Whether a range of rows is right, and a call with it; nothing where the kernel takes no rows."""
    if "rows" not in inspect.signature(function).parameters:
        return
    arguments = next(islice(calls(kernel, allocate, at_end=True), 1))
    for rows in WRONG_ROWS:
        yield False, arguments | {"rows": rows}
    with pytest.raises(ValueError, match=r"within 0 and \d+") as error:
        function(**arguments, rows=(0, 10**9))
    count = int(re.findall(r"within 0 and (\d+)", str(error.value))[0])
    for rows in ((0, 0), (count, count), (count // 2, count // 2), (0, 1), (count - 1, count)):
        yield True, arguments | {"rows": rows}


def _damages(
    array: NDArray[Any], allocate: Allocate, *, exact: bool
) -> Iterator[tuple[str, bool, Callable[[NDArray[Any]], Any]]]:
    if exact:
        yield "a list", False, lambda a: a.tolist()
        for dtype in (np.complex64, np.float64, np.int64, object):
            yield f"of dtype {np.dtype(dtype)}", False, partial(_as_dtype, dtype=dtype)
        if array.dtype.itemsize > 1:
            yield "of the other byte order", False, lambda a: a.astype(a.dtype.newbyteorder())
        yield "not contiguous", True, lambda a: np.repeat(a, 2, axis=-1)[..., ::2]
    yield "one dimension fewer", False, lambda a: a[0]
    yield "one dimension more", False, lambda a: a[None]
    for axis in range(array.ndim):
        yield f"empty in axis {axis}", True, partial(_emptied, axis=axis)
        if array.shape[axis] > 1:
            shape = tuple(n - (k == axis) for k, n in enumerate(array.shape))
            yield f"shorter in axis {axis}", True, partial(_cut, shape=shape, allocate=allocate)


def _as_dtype(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    return array.astype(dtype)


def _emptied(array: NDArray[Any], axis: int) -> NDArray[Any]:
    return np.take(array, np.empty(0, np.int64), axis)


def _cut(array: NDArray[Any], shape: tuple[int, ...], allocate: Allocate) -> NDArray[Any]:
    cut = allocate(shape, array.dtype)
    cut[...] = array[tuple(slice(n) for n in shape)]
    return cut


def _overlapping(arguments: Arguments, path: Path, other: Path, allocate: Allocate) -> Arguments:
    """The two arrays begin at the same byte."""
    first, second = _at(arguments, path), _at(arguments, other)
    memory = allocate((max(first.nbytes, second.nbytes),), np.uint8)
    for place, array in ((path, first), (other, second)):
        view = memory[: array.nbytes].view(array.dtype).reshape(array.shape)
        arguments = _with(arguments, place, view)
    _at(arguments, other)[...] = second
    return arguments


def _arrays(value: Any, path: Path = ()) -> Iterator[tuple[Path, NDArray[Any]]]:
    if isinstance(value, np.ndarray):
        yield path, value
        return
    for key, part in _parts(value):
        yield from _arrays(part, (*path, key))


def _parts(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return list(value._asdict().items())
    if isinstance(value, (tuple, list)):
        return list(enumerate(value))
    if is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return []


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = dict(_parts(value))[key]
    return value


def _with(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    key, rest = path[0], path[1:]
    part = _with(dict(_parts(value))[key], rest, new)
    if isinstance(value, dict):
        return value | {key: part}
    if isinstance(value, tuple) and hasattr(value, "_replace"):
        return value._replace(**{key: part})
    if isinstance(value, (tuple, list)):
        return type(value)(part if index == key else entry for index, entry in enumerate(value))
    return replace(value, **{key: part})
