"""The engine in its own process: the same tensors, the same errors, and an end to whatever does not end."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_isp.engines.delegates import Delegate
from edge_isp.engines.fallback import Delegation, FallbackEngine
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


@pytest.mark.parametrize(("name", "place"), [("memfd_create", os), ("socketpair", socket)])
def test_a_process_that_the_system_refuses_is_an_engine_error(
    name: str, place: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(place, name, refuse)
    with pytest.raises(EngineError, match="no process can be started for engine 'litert': .*Too many open files"):
        ProcessEngine(SMALL.path, engine="litert", threads=1)


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


def test_a_python_that_is_too_old_says_so(tmp_path: Path) -> None:
    """The program of the process, run by a Python that says it is another."""
    old = tmp_path / "python3.9"
    old.write_text(
        f"#!{sys.executable}\nimport sys\nsys.version_info = (3, 9)\nprogram = sys.argv[2]\n"
        "sys.argv = ['-c', *sys.argv[3:]]\nexec(program)\n"
    )
    old.chmod(0o755)
    with pytest.raises(EngineError, match=r"python.*: is Python 3.9, and an engine's process needs 3.11 or later"):
        ProcessEngine(SMALL.path, engine="litert", python=str(old))


def test_a_python_without_numpy_says_so(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(EngineError, match="cannot run an engine: ModuleNotFoundError: No module named 'numpy'"):
        ProcessEngine(SMALL.path, engine="litert", python=str(bare))


def test_a_model_whose_names_are_no_text_is_an_engine_error(tmp_path: Path) -> None:
    """LiteRT reports names as they are in the file, and its package cannot decode them."""
    content = SMALL.path.read_bytes()
    name = LiteRtEngine(SMALL.path, threads=1).outputs[0].name.encode()
    path = tmp_path / "damaged.tflite"
    path.write_bytes(content.replace(name, b"\xff" * len(name)))
    with pytest.raises(EngineError, match="damaged.tflite: LiteRT cannot describe this model: 'utf-8' codec"):
        LiteRtEngine(path, threads=1)


def damaged(folder: Path, seed: int) -> Path:
    """The small model with one byte of its graph changed."""
    content = bytearray(SMALL.path.read_bytes())
    rng = np.random.default_rng(seed)
    content[int(rng.integers(len(content)))] ^= int(rng.integers(1, 256))
    path = folder / f"damaged-{seed}.tflite"
    path.write_bytes(content)
    return path


CRASHING = """
import os, signal
import numpy as np
from edge_isp.engines.base import EngineReport, TensorInfo
from edge_isp.engines.litert import LiteRtEngine

class Crashing(LiteRtEngine):
    def run(self, inputs):
        if inputs[0].flat[0] == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if inputs[0].flat[0] == 2:
            self.eaten = np.ones(1 << 31, np.uint8)
        return super().run(inputs)
"""


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An engine that crashes with inputs that begin with 1, and takes two GiB for those that begin with 2."""
    packages = tmp_path / "packages"
    info = packages / "crashing-1.0.dist-info"
    info.mkdir(parents=True)
    (packages / "crashing.py").write_text(CRASHING)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edge_isp.engines]\ncrashing = crashing:Crashing\n")
    monkeypatch.setenv("PYTHONPATH", f"{packages}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(packages)
    return "crashing"


def first_value(value: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.int8]]]:
    tensor = np.zeros((1, 8, 8, 8), np.int8)
    tensor.flat[0] = value
    return [tensor]


def test_an_isolated_engine_that_crashes_is_started_again(crashing: str) -> None:
    isolated = Delegation("none", isolate=True)
    with FallbackEngine(SMALL.path, engine=crashing, threads=1, delegation=isolated) as engine:
        engine.resize((1, 8, 8, 8))
        (expected,) = engine.run(first_value(0))
        with pytest.raises(EngineError, match="ended with signal SIGSEGV"):
            engine.run(first_value(1))  # in the process that was started again, too
        np.testing.assert_array_equal(engine.run(first_value(0))[0], expected)
        assert [event.kind for event in engine.report.events] == ["dropped", "dropped"]


def test_an_isolated_engine_has_a_limit_of_memory(crashing: str) -> None:
    isolated = Delegation("none", isolate=True, memory_limit_bytes=1 << 30)
    with FallbackEngine(SMALL.path, engine=crashing, threads=1, delegation=isolated) as engine:
        engine.resize((1, 8, 8, 8))
        (expected,) = engine.run(first_value(0))
        with pytest.raises(EngineError, match="out of memory in the engine's process, which may have 1073741824 bytes"):
            engine.run(first_value(2))
        np.testing.assert_array_equal(engine.run(first_value(0))[0], expected)


def test_a_damaged_model_ends_at_most_its_own_process(tmp_path: Path) -> None:
    """One byte is enough to make LiteRT write outside its arrays; where it did, this process would not come here."""
    outcomes = set()
    for seed in range(6):
        path = damaged(tmp_path, seed)
        try:
            with FallbackEngine(path, threads=1, delegation=Delegation("none", isolate=True)) as engine:
                engine.resize((1, 8, 8, 8))
                engine.run([codes(8, 8)])
            outcomes.add("ran")
        except EngineError:
            outcomes.add("refused")
    assert outcomes


@pytest.mark.parametrize("isolate", [False, True])
def test_what_is_loaded_is_what_was_hashed(isolate: bool, tmp_path: Path) -> None:
    """The file is replaced between the card's check and the loading."""
    path = damaged(tmp_path, 0)
    with pytest.raises(EngineError, match="damaged-0.tflite: is not the model that its card describes"):
        FallbackEngine(
            path, threads=1, delegation=Delegation("none", isolate=isolate), sha256={path: SMALL.sha256}
        ).close()


def test_a_pipe_as_a_model_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    os.mkfifo(path)
    with pytest.raises(EngineError, match=r"model.tflite: cannot be read: expected a file, found a pipe \(FIFO\)"):
        LiteRtEngine(path)
