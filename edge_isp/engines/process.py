"""An engine in a process of its own, for what may hang, crash, or need another Python.

A native call that never returns can only be ended with its process, so a time limit implies this engine. Tensors go
through shared memory; requests are JSON on a socket (see `worker`).
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
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
_LEAVE_S = 5.0

# Makes the package known to a Python that it is not installed for, without the other packages beside it.
_START = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
folder = sys.argv[1]
spec = spec_from_file_location("edge_isp", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["edge_isp"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["edge_isp"])
from edge_isp.engines.worker import serve
serve(int(sys.argv[2]), int(sys.argv[3]))
"""


class ProcessEngine(DescribedEngine):
    """Any engine, in another process.

    Args:
        path: of the model's file.
        engine: name of the engine that runs it there.
        threads: of the engine; None for one per core.
        python: path of the other Python, 3.11 or later, which needs NumPy and the engine's runtime; by default this
            one.
        time_limit_s: of one inference; by default it may take for ever. Loading has three minutes.
        memory_limit_bytes: of private memory that the process may have (Linux's RLIMIT_DATA: heap, stacks and other
            writable pages, whether they are touched or not; the tensors shared with it do not count); None for no
            limit.
        options: of the engine, see its class.

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
        memory_limit_bytes: int | None = None,
        delegate: Delegate | None = None,
        shape: tuple[int, ...] | None = None,
        **options: Any,
    ) -> None:
        self.path = Path(path)
        self._name, self._limit_s = engine, time_limit_s
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
        check_inputs(self.path, inputs, self._inputs)
        for array, value in zip(self._arrays, inputs, strict=False):
            array[...] = value
        self._ask({"do": "run"}, self._limit_s)
        return [array.copy() for array in self._arrays[len(inputs) :]]

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

    def _end(self, process: subprocess.Popen[bytes], patience_s: float = _LEAVE_S) -> int:
        """Waits for the process, kills it where it stays, and lets go of all that was shared; its exit status."""
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
        self._free()
        return process.wait()

    def _free(self) -> None:
        self._process = None
        self._arrays = []
        self._connection.close()
        os.close(self._memory_fd)

    def _ask_tensors(self, request: dict[str, Any]) -> None:
        """Asks for what may change the tensors, and maps the memory anew."""
        try:
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
        if self._process is None:
            raise EngineError(f"{self.path}: the process of engine '{self._name}' has ended")
        self._connection.settimeout(limit_s)
        try:
            send(self._connection, {**request, "limit_s": limit_s})
            answer = receive(self._connection)
        except TimeoutError as error:
            self._end(self._process, patience_s=0)
            raise EngineError(
                f"{self.path}: engine '{self._name}' did not answer within {limit_s} s; its process was ended"
            ) from error
        except OSError:
            answer = None
        if answer is None:
            ended = self._end(self._process)
            how = f"signal {signal.Signals(-ended).name}" if ended < 0 else f"exit status {ended}"
            raise EngineError(f"{self.path}: the process of engine '{self._name}' ended with {how}")
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer
