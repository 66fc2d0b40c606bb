"""The addresses of several cameras: the page with their tiles, and each camera's own below `/cameras/NAME/`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from edge_isp.server.answers import BOUNDARY, HANDLERS, MULTIPART, Bounds, file, health, json_answer, part
from edge_isp.server.app import make_app
from edge_isp.server.cameras_view import CamerasView
from edge_isp.server.openapi import openapi_of_cameras

_PAGE = {
    "/": ("cameras.html", "text/html; charset=utf-8"),
    "/cameras.js": ("cameras.js", "text/javascript; charset=utf-8"),
    "/parts.js": ("parts.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def make_cameras_app(view: CamerasView, *, needs_token: bool) -> Starlette:
    """The application, without the checks of `Guard`.

    Args:
        view: that is shown.
        needs_token: whether the APIs' documents say that a token is needed.
    """
    bounds, cameras = Bounds(lambda: view.clients), _Cameras(view)
    document = openapi_of_cameras(list(view.views), needs_token=needs_token)

    async def stream(request: Request) -> Response:
        return bounds.push(request, cameras.parts, MULTIPART)

    async def describe(request: Request) -> Response:
        return json_answer(document)

    routes = [
        *(Route(path, file(name, media_type)) for path, (name, media_type) in _PAGE.items()),
        Route("/stream.mjpg", stream),
        Route("/metrics", cameras.metrics),
        Route("/healthz", cameras.healthz),
        Route("/readyz", cameras.readyz),
        Route("/api/openapi.json", describe),
        Route("/api/status", cameras.status),
        *(
            Mount(base, app=make_app(one, needs_token=needs_token, base=base, bounds=bounds))
            for base, one in ((f"/cameras/{name}", one) for name, one in view.views.items())
        ),
    ]
    return Starlette(routes=routes, exception_handlers=HANDLERS)


class _Cameras:
    """What is answered for all cameras together, address by address."""

    def __init__(self, view: CamerasView) -> None:
        self._view = view

    async def parts(self) -> AsyncGenerator[bytes, None]:
        yield f"--{BOUNDARY}\r\n".encode()
        async with aclosing(self._view.tiles()) as tiles:
            async for name, tile in tiles:
                yield part(tile.jpeg, tile.sequence, tile.timestamp_ns, f"X-Camera: {name}\r\n")

    async def metrics(self, request: Request) -> Response:
        text, media_type = await run_in_threadpool(self._view.metrics_text)
        return Response(text, media_type=media_type)

    async def healthz(self, request: Request) -> Response:
        return health(self._view.healthy, self._view.state)

    async def readyz(self, request: Request) -> Response:
        return health(self._view.ready, self._view.state)

    async def status(self, request: Request) -> Response:
        return json_answer(await run_in_threadpool(self._view.status))
