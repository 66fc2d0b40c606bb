"""The process behind `ProcessEngine`: loads an engine and runs it on request, until the socket is closed.

Imports nothing but NumPy, the standard library and the engine that is asked for, since the Python that it runs in may
be another than edge_isp was installed for.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import resource
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import Engine, TensorInfo, tensors_from
from edge_isp.engines.delegates import Delegate
from edge_isp.errors import EdgeIspError
from edge_isp.plugins import load

_ALIGNMENT = 64
_LENGTH_BYTES = 4
_GRACE_S = 10.0


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """One message: its length in bytes, four of them, little-endian, then JSON."""
    content = json.dumps(message).encode()
    connection.sendall(len(content).to_bytes(_LENGTH_BYTES, "little") + content)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """The next message, None where the other side has closed; TimeoutError as the socket's timeout says."""
    header = _receive_bytes(connection, _LENGTH_BYTES)
    content = _receive_bytes(connection, int.from_bytes(header, "little")) if header else b""
    message: dict[str, Any] | None = json.loads(content) if content else None
    return message


def place(memory: mmap.mmap, tensors: Sequence[TensorInfo]) -> list[NDArray[Any]]:
    """The tensors as arrays in shared memory, one after the other."""
    offset, arrays = 0, []
    for tensor in tensors:
        array: NDArray[Any] = np.ndarray(tensor.shape, tensor.dtype, memory, offset)
        arrays.append(array)
        offset += _aligned(array.nbytes)
    return arrays


def size_of(tensors: Sequence[TensorInfo]) -> int:
    """Bytes of shared memory that the tensors need, at least one."""
    sizes = (int(np.prod(t.shape)) * np.dtype(t.dtype).itemsize for t in tensors)
    return sum(_aligned(size) for size in sizes) or 1


def serve(socket_fd: int, memory_fd: int) -> None:
    """Answers requests until the socket is closed.

    Args:
        socket_fd: of the connection to `ProcessEngine`.
        memory_fd: of the memory that holds the inputs and then the outputs.
    """
    # Ctrl-C, and what a service manager sends to all processes, are for the process that owns this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection = socket.socket(fileno=socket_fd)
    engine: Engine | None = None
    arrays: list[NDArray[Any]] = []
    while (request := receive(connection)) is not None:
        if request["limit_s"] is not None:
            # The process that asks ends this one when the time is up. If it is gone, this ends it; it needs no Python
            # to run, which a native call may block.
            faulthandler.dump_traceback_later(request["limit_s"] + _GRACE_S, exit=True)
        answer: dict[str, Any] = {}
        try:
            if request["do"] == "load":
                _limit_memory(request["memory_limit_bytes"])
                engine = _open(request)
            elif request["do"] == "resize" and engine:
                engine.resize(tuple(request["shape"]))
            if engine and request["do"] == "run":
                count = len(engine.inputs)
                begun = time.monotonic_ns()
                outputs = engine.run(arrays[:count])
                answer = {"run_ns": time.monotonic_ns() - begun}
                for array, output in zip(arrays[count:], outputs, strict=True):
                    array[...] = output
            elif engine:
                tensors = (*engine.inputs, *engine.outputs)
                arrays = []  # lets go of the memory
                os.ftruncate(memory_fd, size_of(tensors))
                arrays = place(mmap.mmap(memory_fd, size_of(tensors)), tensors)
                answer = {
                    "inputs": [asdict(info) for info in engine.inputs],
                    "outputs": [asdict(info) for info in engine.outputs],
                    "report": asdict(engine.report),
                }
        except EdgeIspError as error:
            answer = {"error": str(error)}
        except MemoryError:
            limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
            allowed = f", which may have {limit} bytes" if limit != resource.RLIM_INFINITY else ""
            answer = {"error": f"out of memory in the engine's process{allowed}"}
        except Exception as error:  # noqa: BLE001 - a vendor's package may raise anything, and that is an answer
            answer = {"error": f"{request['do']}: {type(error).__name__}: {error}"}
        faulthandler.cancel_dump_traceback_later()
        send(connection, answer)
    # A driver may hang while it is unloaded, and nobody may be left to end this process.
    faulthandler.dump_traceback_later(_GRACE_S, exit=True)


def _open(request: dict[str, Any]) -> Engine:
    options = dict(request["options"])
    if "delegate" in options:
        delegate = options["delegate"]
        tensors = {name: tensors_from(delegate[name]) for name in ("inputs", "outputs")}
        options["delegate"] = Delegate(**{**delegate, **tensors})
    if "shape" in options:
        options["shape"] = tuple(options["shape"])
    engine: Engine = load("engines", request["engine"])(request["path"], threads=request["threads"], **options)
    return engine


def _limit_memory(limit_bytes: int | None) -> None:
    """Private memory rather than address space, most of which a runtime with threads reserves and never uses."""
    if limit_bytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))


def _receive_bytes(connection: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        part = connection.recv(count - len(content))
        if not part:
            return b""
        content += part
    return bytes(content)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
