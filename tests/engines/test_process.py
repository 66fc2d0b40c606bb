"""The engine in its own process: the same tensors, the same errors, and an end to whatever does not end."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_isp.engines.delegates import Delegate
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.process import ProcessEngine
from edge_isp.errors import EngineError
from tests.engines.npu_tools import SMALL, Runtime, codes


def test_it_is_the_engine_itself() -> None:
    with (
        ProcessEngine(SMALL.path, engine="litert", threads=1) as engine,
        LiteRtEngine(SMALL.path, threads=1) as here,
    ):
        assert (engine.inputs, engine.outputs) == (here.inputs, here.outputs)
        for size in (12, 20, 8):
            engine.resize((1, size, size, 8))
            here.resize((1, size, size, 8))
            assert (engine.inputs, engine.outputs) == (here.inputs, here.outputs)
            (first,) = engine.run([codes(size, size)])
            kept = first.copy()
            np.testing.assert_array_equal(first, here.run([codes(size, size)])[0])
            engine.run([codes(size, size, seed=1)])
            np.testing.assert_array_equal(first, kept)  # outputs belong to the caller
        assert engine.report.engine == f"{here.report.engine} in its own process"
        assert engine.report.partitions == here.report.partitions
        with pytest.raises(EngineError, match="input '.*' must be int8"):
            engine.run([codes(8, 8).astype(np.uint8)])
        with pytest.raises(EngineError, match="cannot resize this model to"):
            engine.resize((1, 8, 8, 5))
    engine.close()
    with pytest.raises(EngineError, match="has ended"):
        engine.run([codes(8, 8)])


def test_another_python(tflite_runtime: Runtime) -> None:
    with ProcessEngine(SMALL.path, engine=tflite_runtime.engine, python=tflite_runtime.python, threads=1) as engine:
        assert engine.report.engine.startswith("tflite-runtime 2.14")
        engine.resize((1, 8, 8, 8))
        assert engine.run([codes(8, 8)])[0].shape == (1, 8, 8, 12)


@pytest.mark.parametrize(
    ("python", "engine", "message"),
    [
        ("/nowhere/python", "litert", "the Python for engine 'litert' cannot be started: .*No such file"),
        ("/bin/false", "litert", "ended with exit status 1"),
        (None, "nope", "no 'nope' among engines"),
    ],
)
def test_what_cannot_be_started(python: str | None, engine: str, message: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(EngineError, match=message):
        ProcessEngine(SMALL.path, engine=engine, python=python)
    assert len(os.listdir("/proc/self/fd")) == before  # nothing is left open


def test_a_call_that_never_returns_ends_with_its_process(npu: str) -> None:
    hanging = Delegate("npu", npu, {"fail": "invoke", "how": "hang", "after": "1"})
    engine = ProcessEngine(
        SMALL.path, engine="litert", threads=1, time_limit_s=0.5, delegate=hanging, shape=(1, 8, 8, 8)
    )
    engine.run([codes(8, 8)])
    assert engine._process
    pid = engine._process.pid
    with pytest.raises(EngineError, match="did not answer within 0.5 s; its process was ended"):
        engine.run([codes(8, 8)])
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(EngineError, match="has ended"):
        engine.run([codes(8, 8)])
    engine.close()


def test_a_process_leaves_with_the_one_that_owns_it() -> None:
    program = (
        "import os, sys; from edge_isp.engines.process import ProcessEngine\n"
        f"engine = ProcessEngine({str(SMALL.path)!r}, engine='litert', threads=1)\n"
        "print(engine._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert killed.returncode == -9
    pid = int(killed.stdout)
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([ended], [], [], 20)[0], "it is still there"
    finally:
        os.close(ended)
