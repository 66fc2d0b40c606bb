"""The decorator of every kernel: compiled by numba, without Python's lock, kept in a cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


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
    compiled = njit(nogil=True, cache=True, inline=inline)
    return compiled if function is None else compiled(function)
