"""The conformance suite of engines: what every `Engine` must do, ours and others'."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import Engine, EngineReport, TensorInfo
from edge_isp.errors import EngineError


def check_engine(open_engine: Callable[[], Engine], *, resized: tuple[int, ...] | None = None) -> None:
    """Checks an engine against the protocol `edge_isp.Engine`; to be called from a test.

        def test_my_engine():
            check_engine(lambda: MyEngine("model.tflite"), resized=(1, 64, 96, 8))

    It opens the engine several times, and checks: tensors are described, with quantisation where they are integers;
    outputs have the shapes and dtypes that are described, are the same for the same input, belong to the caller and are
    not changed by a later run; the input is not written to; a wrong number, shape or dtype of inputs is an
    `EngineError`, and the engine goes on working; a size that a graph cannot have is an `EngineError`; the engine is
    used by one thread after another; the report names a runtime; it may be closed twice, and a run after `close` is an
    `EngineError`.

    Args:
        open_engine: opens the engine, always with the same model.
        resized: another shape of the first input that the model takes; None where there is only one.

    Raises:
        AssertionError: the engine does not do what it must; the message names the method.
    """
    with open_engine() as engine:
        _check_descriptions(engine)
        _check_runs(engine)
        _check_refusals(engine)
        _check_threads(engine)
        if resized is not None:
            _check_resize(engine, resized)
    _check_close(open_engine)


def _check_descriptions(engine: Engine) -> None:
    assert engine.inputs, "inputs: there is none"
    assert engine.outputs, "outputs: there is none"
    for info in (*engine.inputs, *engine.outputs):
        assert isinstance(info, TensorInfo), f"inputs and outputs must be TensorInfo, found {type(info).__name__}"
        assert all(isinstance(n, int) and n > 0 for n in info.shape), f"shape of '{info.name}': found {info.shape}"
        if np.issubdtype(np.dtype(info.dtype), np.integer):
            assert info.scale > 0, (
                f"scale of '{info.name}', which is {info.dtype}, must be positive, found {info.scale}"
            )
    report = engine.report
    assert isinstance(report, EngineReport), f"report must be an EngineReport, found {type(report).__name__}"
    assert report.engine, "report.engine must name the runtime and its version"
    assert report.delegate, "report.delegate must name what runs the graph, or be 'none'"
    assert report.threads >= 1, f"report.threads must be at least 1, found {report.threads}"


def _check_runs(engine: Engine) -> None:
    first, second = _inputs(engine, 0), _inputs(engine, 1)
    before = [array.copy() for array in first]
    outputs = engine.run(first)
    assert all(np.array_equal(a, b) for a, b in zip(first, before, strict=True)), "run wrote to its input"
    _check_outputs(engine, outputs)
    kept = [output.copy() for output in outputs]
    other = engine.run(second)
    assert all(np.array_equal(a, b) for a, b in zip(outputs, kept, strict=True)), (
        "run: outputs must belong to the caller, but a later run changed them"
    )
    assert any(not np.array_equal(a, b) for a, b in zip(other, kept, strict=True)), (
        "run: two different inputs gave the same outputs"
    )
    again = engine.run(first)
    assert all(np.array_equal(a, b) for a, b in zip(again, kept, strict=True)), (
        "run: the same input gave different outputs"
    )
    locked = _inputs(engine, 0)
    for array in locked:
        array.flags.writeable = False
    assert all(np.array_equal(a, b) for a, b in zip(engine.run(locked), kept, strict=True)), (
        "run: read-only inputs gave different outputs"
    )


def _check_outputs(engine: Engine, outputs: list[NDArray[Any]]) -> None:
    assert isinstance(outputs, list), f"run must return a list, found {type(outputs).__name__}"
    assert len(outputs) == len(engine.outputs), f"run must return {len(engine.outputs)} outputs, found {len(outputs)}"
    for output, info in zip(outputs, engine.outputs, strict=True):
        assert (output.shape, output.dtype) == (info.shape, np.dtype(info.dtype)), (
            f"run: output '{info.name}' must be {info.dtype} {info.shape}, found {output.dtype} {output.shape}"
        )


def _check_refusals(engine: Engine) -> None:
    good = _inputs(engine, 0)
    expected = engine.run(good)
    wrong_dtype = np.dtype(np.float64 if good[0].dtype != np.float64 else np.float32)
    for what, inputs in (
        ("no inputs", []),
        ("one input too many", [*good, good[0]]),
        ("a wrong shape", [good[0][..., :-1], *good[1:]]),
        ("a wrong dtype", [good[0].astype(wrong_dtype), *good[1:]]),
    ):
        _must_refuse(partial(engine.run, inputs), f"run with {what}")
    shape = engine.inputs[0].shape
    for bad in ((), shape[:-1], (*shape, 1), tuple(-n for n in shape)):
        _must_refuse(partial(engine.resize, bad), f"resize to {bad}")
    engine.resize(shape)
    assert all(np.array_equal(a, b) for a, b in zip(engine.run(good), expected, strict=True)), (
        "run: after inputs and sizes that do not fit, outputs differ"
    )


def _check_threads(engine: Engine) -> None:
    """A pipeline loads, resizes and runs in one thread, and closes in another."""
    inputs, found = _inputs(engine, 0), []
    expected = engine.run(inputs)
    thread = threading.Thread(target=lambda: found.extend(engine.run(inputs)))
    thread.start()
    thread.join()
    assert len(found) == len(expected), "run in another thread failed"
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)), (
        "run in another thread gave different outputs"
    )


def _check_resize(engine: Engine, shape: tuple[int, ...]) -> None:
    original = engine.inputs[0].shape
    before = engine.run(_inputs(engine, 0))
    engine.resize(shape)
    assert engine.inputs[0].shape == shape, f"resize: inputs[0].shape must be {shape}, found {engine.inputs[0].shape}"
    _check_outputs(engine, engine.run(_inputs(engine, 0)))
    engine.resize(original)
    after = engine.run(_inputs(engine, 0))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)), (
        "resize: there and back, outputs differ"
    )


def _check_close(open_engine: Callable[[], Engine]) -> None:
    engine = open_engine()
    inputs = _inputs(engine, 0)
    engine.close()
    engine.close()
    _must_refuse(lambda: engine.run(inputs), "run after close")


def _must_refuse(call: Callable[[], object], what: str) -> None:
    try:
        call()
    except EngineError:
        return
    except Exception as error:
        raise AssertionError(f"{what} must raise EngineError, found {type(error).__name__}: {error}") from error
    raise AssertionError(f"{what} must raise EngineError, but nothing was raised")


def _inputs(engine: Engine, seed: int) -> list[NDArray[Any]]:
    """Random inputs that the engine takes."""
    rng = np.random.default_rng(seed)
    made: list[NDArray[Any]] = []
    for info in engine.inputs:
        dtype = np.dtype(info.dtype)
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            made.append(rng.integers(limits.min, limits.max, info.shape, dtype, endpoint=True))
        else:
            made.append(rng.random(info.shape).astype(dtype))
    return made
