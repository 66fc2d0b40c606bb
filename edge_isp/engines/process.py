"""An engine in a process of its own, for what may hang, crash, or need another Python.

A native call that never returns can only be ended with its process, so a time limit implies this engine. Tensors go
through shared memory; requests are JSON on a socket (see `worker`).
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge_isp.engines.base import (
    DescribedEngine,
    check_inputs,
    default_threads,
    report_from,
    tensors_from,
)
from edge_isp.engines.delegates import Delegate
from edge_isp.engines.worker import place, receive, send, size_of
from edge_isp.errors import EngineError

# A vendor's compiler may take a minute for a large graph; what takes longer hangs.
LOAD_LIMIT_S = 180.0
# How long a process may take to leave by itself, and to be gone after it was killed: one that waits for a driver
# cannot be.
_LEAVE_S, _KILLED_S = 5.0, 1.0
# Waits are counted in steps. One in which this process was paused counts once, so that the other one, which may have
# been paused with it, still has its time.
_STEP_S = 0.005

# Makes the package known to a Python that it is not installed for, without the other packages beside it. What keeps it
# from starting is the answer to the first request. This much must be readable by a Python that is too old.
_START = """
import json, os, sys
def refuse(reason):
    content = json.dumps({"error": sys.executable + ": " + reason}).encode()
    os.write(int(sys.argv[2]), len(content).to_bytes(4, "little") + content)
    sys.exit(1)
if sys.version_info < (3, 11):
    refuse("is Python %d.%d, and an engine's process needs 3.11 or later" % sys.version_info[:2])
from importlib.util import module_from_spec, spec_from_file_location
folder = sys.argv[1]
try:
    spec = spec_from_file_location("edge_isp", folder + "/__init__.py", submodule_search_locations=[folder])
    sys.modules["edge_isp"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["edge_isp"])
    from edge_isp.engines.worker import serve
except Exception as error:
    refuse("cannot run an engine: %s: %s" % (type(error).__name__, error))
serve(int(sys.argv[2]), int(sys.argv[3]))
"""


class ProcessEngine(DescribedEngine):
    """Any engine, in another process.

    Args:
        path: of the model's file.
        engine: name of the engine that runs it there.
        threads: of the engine; None for one fewer than there are cores.
        python: path of the other Python, 3.11 or later, which needs NumPy and the engine's runtime; by default this
            one.
        time_limit_s: of one inference; by default it may take for ever. Loading has three minutes.
        first_limit_s: of the first inference after loading and after a resize, in which some runtimes compile the
            graph; None for `time_limit_s`.
        cancelled: ends whatever is waited for once it is set, with an EngineError; None for never.
        memory_limit_bytes: of private memory that the process may have (Linux's RLIMIT_DATA: heap, stacks and other
            writable pages, whether they are touched or not; the tensors shared with it do not count); None for no
            limit.
        delegate: of the engine; None for none.
        shape: of the input that the model is loaded for; None for its own.
        options: of the engine, see its class.

    Attributes:
        run_ns: duration of the last inference in the process, 0 before there is one.

    Raises:
        EngineError: the process cannot be started, or the engine cannot load the model.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        engine: str,
        threads: int | None = None,
        python: str | None = None,
        time_limit_s: float | None = None,
        first_limit_s: float | None = None,
        cancelled: threading.Event | None = None,
        memory_limit_bytes: int | None = None,
        delegate: Delegate | None = None,
        shape: tuple[int, ...] | None = None,
        **options: Any,
    ) -> None:
        self.path = Path(path)
        self._name, self._limit_s, self._first_limit_s = engine, time_limit_s, first_limit_s or time_limit_s
        self._cancelled = cancelled
        self._has_run, self.run_ns = False, 0
        self._process: subprocess.Popen[bytes] | None = None
        self._arrays: list[NDArray[Any]] = []
        try:
            self._memory_fd = os.memfd_create("edge_isp")
            try:
                self._connection, theirs = socket.socketpair()
            except OSError:
                os.close(self._memory_fd)
                raise
        except OSError as error:
            raise EngineError(f"no process can be started for engine '{engine}': {error}") from error
        try:
            self._process = subprocess.Popen(
                [
                    python or sys.executable,
                    "-c",
                    _START,
                    str(Path(__file__).parent.parent),
                    str(theirs.fileno()),
                    str(self._memory_fd),
                ],
                pass_fds=(theirs.fileno(), self._memory_fd),
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a vendor's library prints must not mix with ours
            )
        except (OSError, MemoryError) as error:
            self._free()
            raise EngineError(f"the Python for engine '{engine}' cannot be started: {error}") from error
        finally:
            theirs.close()
        if delegate is not None:
            options["delegate"] = asdict(delegate)
        if shape is not None:
            options["shape"] = shape
        self._ask_tensors(
            {
                "do": "load",
                "engine": engine,
                "path": str(self.path.absolute()),
                "threads": default_threads(threads),
                "memory_limit_bytes": memory_limit_bytes,
                "options": options,
            }
        )

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `Engine.resize`."""
        if shape != self._inputs[0].shape:
            self._ask_tensors({"do": "resize", "shape": shape})

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`; EngineError also where the time is up or the process has ended, which is then final."""
        self.send(inputs)
        return self.receive()

    def send(self, inputs: list[NDArray[Any]]) -> None:
        """Begins an inference: the first half of `run`.

        Args:
            inputs: see `Engine.run`.

        Raises:
            EngineError: they do not fit, or the process has ended.
        """
        check_inputs(self.path, inputs, self._inputs)
        for array, value in zip(self._arrays, inputs, strict=False):
            array[...] = value
        self._send({"do": "run"}, self._run_limit_s)

    def wait(self, limit_s: float) -> bool:
        """Waits for the end of the inference that was begun.

        Args:
            limit_s: seconds; those in which this process was paused do not count.

        Returns:
            Whether it has ended, so that `receive` does not wait.
        """
        return self._process is None or self._wait(limit_s)

    def receive(self) -> list[NDArray[Any]]:
        """The outputs of the inference that was begun: the second half of `run`.

        Raises:
            EngineError: the runtime fails, the time is up, or the process has ended.
        """
        self.run_ns = int(self._receive(self._run_limit_s)["run_ns"])
        self._has_run = True
        return [array.copy() for array in self._arrays[len(self._inputs) :]]

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone, so that nothing can be run any more."""
        return self._process is None

    def close(self) -> None:
        """See `Engine.close`."""
        if self._process is None:
            return
        self._connection.close()  # it leaves by itself
        self._end(self._process)

    def kill(self) -> None:
        """Ends the process at once, whatever it does. Idempotent."""
        if self._process is not None:
            self._end(self._process, patience_s=0)

    @property
    def _run_limit_s(self) -> float | None:
        return self._limit_s if self._has_run else self._first_limit_s

    def _end(self, process: subprocess.Popen[bytes], patience_s: float = _LEAVE_S) -> str:
        """Waits for the process, kills it where it stays, and lets go of all that was shared; how it ended."""
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
        self._free()
        try:
            status = process.wait(_KILLED_S)
        except subprocess.TimeoutExpired:  # a driver holds it
            threading.Thread(target=process.wait, name="edge_isp engine's end", daemon=True).start()
            return "nothing: it was killed and its driver holds it"
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def _free(self) -> None:
        self._process = None
        self._arrays = []
        self._connection.close()
        os.close(self._memory_fd)

    def _ask_tensors(self, request: dict[str, Any]) -> None:
        """Asks for what may change the tensors, and maps the memory anew."""
        try:
            self._has_run = False
            answer = self._ask(request, LOAD_LIMIT_S)
        except EngineError:
            if request["do"] == "load":
                self.close()
            raise
        self._inputs, self._outputs = tensors_from(answer["inputs"]), tensors_from(answer["outputs"])
        report = report_from(answer["report"])
        self._report = replace(report, engine=f"{report.engine} in its own process")
        tensors = (*self._inputs, *self._outputs)
        self._arrays = []
        try:
            self._arrays = place(mmap.mmap(self._memory_fd, size_of(tensors)), tensors)
        except (OSError, ValueError) as error:
            self.close()
            raise EngineError(
                f"{self.path}: the memory of the tensors cannot be shared with engine '{self._name}': {error}"
            ) from error

    def _ask(self, request: dict[str, Any], limit_s: float | None) -> dict[str, Any]:
        self._send(request, limit_s)
        return self._receive(limit_s)

    def _send(self, request: dict[str, Any], limit_s: float | None) -> None:
        if self._process is None:
            raise EngineError(f"{self.path}: the process of engine '{self._name}' has ended")
        with suppress(OSError):  # it has ended, and may have said why before
            send(self._connection, {**request, "limit_s": limit_s})

    def _receive(self, limit_s: float | None) -> dict[str, Any]:
        if self._process is None:
            raise EngineError(f"{self.path}: the process of engine '{self._name}' has ended")
        if not self._wait(limit_s):
            self._end(self._process, patience_s=0)
            raise EngineError(
                f"{self.path}: engine '{self._name}' did not answer within {limit_s:g} s; its process was ended"
            )
        try:
            answer = receive(self._connection)
        except OSError:
            answer = None
        if answer is None:
            raise EngineError(
                f"{self.path}: the process of engine '{self._name}' ended with {self._end(self._process)}"
            )
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer

    def _wait(self, limit_s: float | None) -> bool:
        """Waits until there is an answer, or the process has ended; False where the time is up first."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        left_s = limit_s
        while not poll.poll(1000 * (_STEP_S if left_s is None else min(left_s, _STEP_S))):
            if self._cancelled is not None and self._cancelled.is_set():
                assert self._process is not None
                self._end(self._process, patience_s=0)
                raise EngineError(f"{self.path}: is not needed any more")
            if left_s is not None:
                left_s -= _STEP_S
                if left_s <= 0:
                    return False
        return True
