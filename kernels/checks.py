"""Checks of what a kernel is called with: compiled code checks nothing, and would read beyond too small an array."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What encoding tables may hold.
TABLE_DTYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32)

# Products of a colour matrix with light stay finite in float32 up to here.
_LARGEST_COEFFICIENT = 1e30


def check_array(name: str, array: NDArray[Any], dtype: np.dtype[Any] | type, shape: Sequence[int]) -> None:
    """Refuses an array that is not C-contiguous, of that dtype and that shape.

    Args:
        name: of the array, for the message.
        array: to look at.
        dtype: expected.
        shape: expected.

    Raises:
        ValueError: It is another.
    """
    _check_is_array(name, array)
    if array.shape != tuple(shape) or array.dtype != dtype or not array.flags.c_contiguous:
        expected = f"C-contiguous {np.dtype(dtype)} {tuple(shape)}"
        order = "" if array.flags.c_contiguous else ", not C-contiguous"
        raise ValueError(f"{name} must be {expected}, found {array.dtype} {array.shape}{order}")


def check_output(
    name: str, array: NDArray[Any], dtype: np.dtype[Any] | type, shape: Sequence[int], **inputs: NDArray[Any] | None
) -> None:
    """Refuses an array that a kernel cannot write: see `check_array`; or it is read-only, or overlaps an input.

    Args:
        name: of the array, for the message.
        array: to look at.
        dtype: expected.
        shape: expected.
        **inputs: the arrays that are read, by their names.

    Raises:
        ValueError: It cannot be written.
    """
    check_array(name, array, dtype, shape)
    check_writeable(name, array, **inputs)


def check_writeable(name: str, array: NDArray[Any], **inputs: NDArray[Any] | None) -> None:
    """Refuses an array that is read-only or overlaps an input.

    Args:
        name: of the array, for the message.
        array: to look at.
        **inputs: the arrays that are read, by their names.

    Raises:
        ValueError: It cannot be written.
    """
    if not array.flags.writeable:
        raise ValueError(f"{name} is written: it must not be read-only")
    for other, values in inputs.items():
        # Whether their ranges of bytes overlap, which is a matter of four addresses.
        if values is not None and np.may_share_memory(array, values):
            raise ValueError(f"{name} must not share memory with {other}, which is read while {name} is written")


def check_image(name: str, image: NDArray[Any], dtypes: Sequence[type], channels: int | None = None) -> tuple[int, int]:
    """Height and width of an image; refuses one that is empty, not C-contiguous, or of other dtypes or channels.

    Args:
        name: of the image, for the message.
        image: to look at, (h, w, channels).
        dtypes: that it may have.
        channels: that it must have; None for any number from one on.

    Raises:
        ValueError: It is another.
    """
    _check_is_array(name, image)
    allowed = tuple(np.dtype(dtype) for dtype in dtypes)
    is_image = image.ndim == 3 and image.size > 0 and channels in (None, image.shape[-1])
    if not is_image or image.dtype not in allowed or not image.flags.c_contiguous:
        kinds = " or ".join(str(dtype) for dtype in allowed)
        order = "" if image.flags.c_contiguous else ", not C-contiguous"
        raise ValueError(
            f"{name} must be {kinds} (h, w, {channels or 'channels'}), C-contiguous and not empty, "
            f"found {image.dtype} {image.shape}{order}"
        )
    return int(image.shape[0]), int(image.shape[1])


def check_tables(tables: NDArray[Any], shape: Sequence[int | None]) -> None:
    """Refuses encoding tables that are not C-contiguous, of that shape and a dtype that a network's input has.

    Args:
        tables: to look at.
        shape: expected; None for any size from one on.

    Raises:
        ValueError: They are others.
    """
    _check_is_array("tables", tables)
    expected = [found if size is None else size for size, found in zip(shape, tables.shape, strict=False)]
    if tables.dtype not in TABLE_DTYPES or len(expected) != len(shape) or 0 in tables.shape:
        kinds = ", ".join(np.dtype(dtype).name for dtype in TABLE_DTYPES)
        sizes = ", ".join("n" if size is None else str(size) for size in shape)
        raise ValueError(f"tables must be ({sizes}) of {kinds}, found {tables.dtype} {tables.shape}")
    check_array("tables", tables, tables.dtype, expected)


def check_matrix(matrix: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """A colour matrix in float64; refuses what is not 3x3 numbers of a sensible size.

    Args:
        matrix: to look at.

    Raises:
        ValueError: It is another.
    """
    try:
        numbers = np.asarray(matrix, np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (3, 3) or not np.all(np.abs(numbers) < _LARGEST_COEFFICIENT):
        raise ValueError(f"matrix must be 3x3 finite numbers, found {matrix!r}")
    return numbers


def check_rows(rows: tuple[int, int] | None, count: int) -> tuple[int, int]:
    """First and last (exclusive) of the rows to do.

    Args:
        rows: the first and the last (exclusive); None for all.
        count: of all rows.

    Raises:
        ValueError: They are not within 0 to `count`.
    """
    if rows is None:
        return 0, count
    try:
        first, last = (operator.index(row) for row in rows)
    except (TypeError, ValueError):
        first, last = -1, -1
    if not 0 <= first <= last <= count:
        raise ValueError(f"rows must be (first, last) within 0 and {count}, found {rows}")
    return first, last


def check_whole(name: str, value: int, lowest: int, highest: int) -> int:
    """A whole number; refuses another one, and one that is out of range.

    Args:
        name: of the number, for the message.
        value: to look at.
        lowest: that it may be.
        highest: that it may be.

    Raises:
        ValueError: It is not a whole number, or out of range.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = lowest - 1
    if not lowest <= number <= highest:
        raise ValueError(f"{name} must be a whole number from {lowest} to {highest}, found {value}")
    return number


def _check_is_array(name: str, array: object) -> None:
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} must be a NumPy array, found {type(array).__name__}")
