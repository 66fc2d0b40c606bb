"""The HTTP server of a live view, in a thread of its own."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from pathlib import Path
from typing import Any, Self

from edge_isp.errors import MissingDependencyError, ServerError
from edge_isp.files import read_file
from edge_isp.server.cameras_view import CamerasView
from edge_isp.server.live_view import LiveView

# What the extra [serve] installs.
_PACKAGES = ("starlette", "uvicorn", "simplejpeg", "prometheus_client")
_BACKLOG = 64
_LONGEST_TOKEN = 4096
_SHORTEST_TOKEN = 16
# How long the last answers may take when the server ends.
_LAST_ANSWERS_S = 3
_KEPT_ALIVE_S = 5
_HIGHEST_PORT = 65535


def check_packages() -> None:
    """Sees to it that the extra [serve] is installed.

    Raises:
        MissingDependencyError: a package is missing.
    """
    from importlib.util import find_spec

    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingDependencyError("the live view", package, "serve")


def read_token(path: Path) -> str:
    """The token in a file, without the white space around it.

    Args:
        path: of the file.

    Raises:
        ServerError: it cannot be read, or what it holds is no token.
    """
    try:
        token = read_file(path, ServerError, _LONGEST_TOKEN).decode("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if len(token) < _SHORTEST_TOKEN or not all(c.isalnum() or c in "-_.~" for c in token):
        raise ServerError(
            f"{path}: expected a token of at least {_SHORTEST_TOKEN} letters, digits, '-', '_', '.' or '~'; "
            "this makes one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token


class LiveServer:
    """Serves the live view of a camera, or those of several, over HTTP from a thread of its own; a context manager.

    Args:
        view: that is served, by this server only; its streams end with the server, the pipelines go on.
        host: address or name to bind to. Any other than this machine's own ("127.0.0.1", "::1", "localhost") needs a
            token.
        port: to listen at; 0 takes a free one.
        token: that clients must know; None makes one where the address needs it.

    Attributes:
        token: that clients must know; None where none is needed.
        port: that it listens at.

    Raises:
        MissingDependencyError: a package of the extra [serve] is missing.
        ServerError: the address cannot be bound to.
    """

    def __init__(
        self,
        view: LiveView | CamerasView,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | None = None,
    ) -> None:
        check_packages()
        from edge_isp.server.guard import is_local

        self._view, self._host = view, host
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.token = token or (None if is_local(host) else secrets.token_urlsafe(32))
        self._server = self._make_server()
        self._started, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def url(self) -> str:
        """The link to the page, with the token if there is one."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self._host, self._host)
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port}/{f'?token={self.token}' if self.token else ''}"

    def close(self) -> None:
        """Ends the server; clients are disconnected. Idempotent."""
        self._view.end_streams()
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_server(self) -> Any:
        import uvicorn

        from edge_isp.server.app import make_app
        from edge_isp.server.cameras_app import make_cameras_app
        from edge_isp.server.guard import HEALTH_PATHS, LONGEST_HEADERS, Guard, hosts_of
        from edge_isp.server.protocol import LimitedProtocol

        view, needs_token = self._view, self.token is not None
        if isinstance(view, LiveView):
            app, open_paths = make_app(view, needs_token=needs_token), HEALTH_PATHS
        else:
            app = make_cameras_app(view, needs_token=needs_token)
            own = {f"/cameras/{name}{path}" for name in view.views for path in HEALTH_PATHS}
            open_paths = HEALTH_PATHS | own
        return uvicorn.Server(
            uvicorn.Config(
                Guard(app, token=self.token, hosts=hosts_of(self._host), port=self.port, open_paths=open_paths),
                http=LimitedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,  # it would hold the token
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=LONGEST_HEADERS,
                timeout_keep_alive=_KEPT_ALIVE_S,
                timeout_graceful_shutdown=_LAST_ANSWERS_S,
            )
        )

    def _run(self) -> None:
        async def serve() -> None:
            self._view.attach(asyncio.get_running_loop())
            self._started.set()
            await self._server.serve(sockets=[self._socket])

        try:
            asyncio.run(serve())
        finally:
            self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= _HIGHEST_PORT:
        raise ServerError(f"{host}, port {port}: cannot be listened at: a port is from 0 to {_HIGHEST_PORT}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except BaseException:
            listening.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        raise ServerError(
            f"{host}, port {port}: cannot be listened at: {getattr(error, 'strerror', None) or error}"
        ) from error
    return listening
