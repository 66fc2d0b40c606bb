"""A TCP connection that breaks or stalls when a test says so."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class BrokenLink:
    """Forwards connections to a port of this machine; a context manager.

    Args:
        port: that connections are forwarded to.

    Attributes:
        port: that it listens at.
        connections: how many there have been.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flows, self._accepts, self._closed = threading.Event(), threading.Event(), threading.Event()
        self.flow()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Ends all connections, and every new one until `flow`."""
        self._accepts.clear()
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Forwards nothing until `flow`; connections stay."""
        self._flows.clear()

    def flow(self) -> None:
        """Forwards again, and takes connections."""
        self._flows.set()
        self._accepts.set()

    def __enter__(self) -> BrokenLink:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self.flow()
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(OSError):
                if not select.select([self._listening], [], [], 0.1)[0]:
                    continue
                here, _ = self._listening.accept()
                if self._accepts.is_set():
                    self._forward(here)
                else:
                    here.close()

    def _forward(self, here: socket.socket) -> None:
        try:
            there = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            here.close()
            return
        with self._lock:
            self.connections += 1
            self._pairs.append((here, there))
        done = threading.Barrier(2)
        for source, target in ((here, there), (there, here)):
            thread = threading.Thread(target=self._copy, args=(source, target, done), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _copy(self, source: socket.socket, target: socket.socket, done: threading.Barrier) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flows.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(threading.BrokenBarrierError):
            done.wait()
        source.close()
