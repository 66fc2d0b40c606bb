"""The protocol of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from edge_isp.errors import EngineError


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor as the runtime sees it; scale 0 where it is not quantised."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What runs the model.

    Attributes:
        engine: the runtime and its version ("litert 2.3.0").
        delegate: what takes the graph from the runtime's own interpreter ("XNNPACK"), or "none".
        threads: that the runtime was given.
    """

    engine: str
    delegate: str
    threads: int


class Engine(Protocol):
    """Runs one model; a context manager. Not to be used from two threads at once."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The model's inputs, in order."""
        ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The model's outputs, in order."""
        ...

    @property
    def report(self) -> EngineReport:
        """What runs the model."""
        ...

    def resize(self, shape: tuple[int, ...]) -> None:
        """Prepares the model for a first input of another shape.

        Raises:
            EngineError: the model cannot take it.
        """
        ...

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """One inference; the outputs belong to the caller.

        Raises:
            EngineError: an input does not fit, or the runtime fails.
        """
        ...

    def close(self) -> None:
        """Frees the model. Doing so twice does no harm."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_inputs(path: Path, inputs: Sequence[NDArray[Any]], expected: Sequence[TensorInfo]) -> None:
    """Raises EngineError where arrays are not what a model takes.

    Args:
        path: of the model's file, for the message.
    """
    if len(inputs) != len(expected):
        raise EngineError(f"{path}: expected {len(expected)} inputs, found {len(inputs)}")
    for array, info in zip(inputs, expected, strict=True):
        if array.shape != info.shape or array.dtype != np.dtype(info.dtype):
            raise EngineError(
                f"{path}: input '{info.name}' must be {info.dtype} {info.shape}, found {array.dtype} {array.shape}"
            )
