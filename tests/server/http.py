"""Requests as bytes, for what no HTTP library sends."""

from __future__ import annotations

import socket


def connect(port: int, *, receive_bytes: int | None = None) -> socket.socket:
    """A connection to a server on this machine.

    Args:
        port: of the server.
        receive_bytes: size of the socket's buffer; None is the system's.
    """
    connection = socket.socket()
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", port))
    return connection


def exchange(port: int, request: bytes, *, most_bytes: int = 1 << 16) -> bytes:
    """Sends bytes and reads the answer until the server closes the connection or enough has come.

    Args:
        port: of the server.
        request: as it is sent.
        most_bytes: that are read.
    """
    with connect(port) as connection:
        connection.sendall(request)
        answer = bytearray()
        while len(answer) < most_bytes and (chunk := connection.recv(1 << 14)):
            answer += chunk
        return bytes(answer)


def status_of(answer: bytes) -> int:
    """The status of an answer.

    Args:
        answer: its bytes.
    """
    assert answer.startswith(b"HTTP/1.1 "), answer[:80]
    return int(answer.split(b" ", 2)[1])
