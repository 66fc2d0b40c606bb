"""Several cameras in one live view: a tile of each, and each camera's own view below `/cameras/NAME/`."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Self

import numpy as np
from PIL import Image

from edge_isp.board import Board
from edge_isp.errors import EdgeIspError, ServerError, shortened
from edge_isp.pipeline import PipelineState
from edge_isp.pipeline.watchdog import CHECK_PERIOD_S, Systemd
from edge_isp.results import FrameResult
from edge_isp.server.broadcast import Broadcast
from edge_isp.server.channel import Channel, EncodedPicture, encode_jpeg
from edge_isp.server.live_view import LiveView
from edge_isp.server.messages import CamerasStatus
from edge_isp.server.metrics import CamerasMetrics, MachineMetrics, exposition

_log = logging.getLogger(__name__)

# Of the pictures in the tiles: at most this wide, in pixels, and this often.
_WIDEST = 480
_TILE_EVERY_S = 0.2


class CamerasView:
    """The live views of several cameras; a context manager, which does not close the views.

    Args:
        views: by the cameras' names, which are parts of addresses.
        on_failed: called when the streams of all cameras have failed.
        notify_systemd: whether to tell the service manager when the first camera has a result (READY), and that every
            stage of all cameras responds (WATCHDOG). The views themselves are not to do so.

    Attributes:
        views: see above.
        viewers: how many clients watch the tiles.

    Raises:
        ServerError: there is no view, or a name is none.
    """

    def __init__(
        self,
        views: Mapping[str, LiveView],
        *,
        on_failed: Callable[[], object] | None = None,
        notify_systemd: bool = False,
    ) -> None:
        if not views:
            raise ServerError("a view of several cameras needs at least one")
        for name in views:
            check_name(name)
        self.views, self.viewers = dict(views), 0
        self._on_failed = on_failed
        self._metrics = CamerasMetrics({name: view.metrics for name, view in self.views.items()})
        self._machine = MachineMetrics(Board())
        self._shown: dict[str, EncodedPicture] = {}
        self._tiles: Broadcast[dict[str, EncodedPicture]] = Broadcast()
        self._drawing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._systemd = Systemd() if notify_systemd else Systemd({})
        self._closed = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="edge_isp cameras", daemon=True)

    def start(self) -> None:
        """Starts the streams of all cameras.

        Raises:
            CameraError: a camera cannot be opened.
        """
        for view in self.views.values():
            view.start()
        self._watching.start()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """See `LiveView.attach`.

        Args:
            loop: of the server.
        """
        self._loop = loop
        for view in self.views.values():
            view.attach(loop)

    def end_streams(self) -> None:
        """Ends what clients watch, so that the server can end. Idempotent."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed
                self._loop.call_soon_threadsafe(self._tiles.end)
        for view in self.views.values():
            view.end_streams()

    def close(self) -> None:
        """Ends what clients watch; the views go on. Idempotent."""
        self.end_streams()
        self._closed.set()
        if self._watching.is_alive():
            self._watching.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def clients(self) -> int:
        """How many clients watch a stream of pictures or of detections, of all cameras together."""
        return self.viewers + sum(view.clients for view in self.views.values())

    @property
    def healthy(self) -> bool:
        """Whether every stage of all cameras responds and nothing has failed."""
        return all(view.healthy for view in self.views.values())

    @property
    def ready(self) -> bool:
        """Whether results arrive from all cameras."""
        return all(view.ready for view in self.views.values())

    @property
    def state(self) -> str:
        """The state of each camera's pipeline, a line each."""
        return "\n".join(f"{name}: {view.pipeline.state}" for name, view in self.views.items())

    def status(self) -> CamerasStatus:
        """All numbers of all cameras."""
        return CamerasStatus({name: view.status() for name, view in self.views.items()}, self.viewers)

    def metrics_text(self) -> tuple[bytes, str]:
        """All metrics in Prometheus's text format, those of cameras with the label `camera`, and the content type."""
        return exposition(self._metrics, self._machine)

    async def tiles(self) -> AsyncGenerator[tuple[str, EncodedPicture], None]:
        """Cameras' names and their newest pictures for one viewer, who misses those for which they are too slow."""
        self.viewers += 1
        if self._drawing is None:
            self._drawing = asyncio.create_task(self._draw())
        sent: dict[str, EncodedPicture] = {}
        found: tuple[int, dict[str, EncodedPicture]] | None = (self._tiles.version, self._shown)
        try:
            while found is not None:
                version, shown = found
                for name, tile in shown.items():
                    if sent.get(name) is not tile:
                        sent[name] = tile
                        yield name, tile
                found = await self._tiles.after(version)
        finally:
            self.viewers -= 1
            if not self.viewers and self._drawing is not None:
                self._drawing.cancel()
                self._drawing = None

    async def _draw(self) -> None:
        """Draws the newest frame of each camera, once for all viewers, as long as there are any."""
        drawn: dict[str, FrameResult] = {}
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            for name, view in self.views.items():
                channel = view.channel(None)
                newest = None if channel is None else channel.newest
                if channel is None or newest is None or drawn.get(name) is newest:
                    continue
                drawn[name] = newest
                try:
                    tile = await asyncio.to_thread(_tile, channel, newest)
                except EdgeIspError as error:
                    _log.warning("%s: no picture of frame %d: %s", name, newest.sequence, error)
                    continue
                self._shown = {**self._shown, name: tile}
                self._tiles.publish(self._shown)
            await asyncio.sleep(max(0.0, begun + _TILE_EVERY_S - loop.time()))

    def _watch(self) -> None:
        """Tells the service manager how the cameras are, and notices when all have failed; in a thread of its own."""
        watchdog_s = self._systemd.watchdog_s
        period_s = CHECK_PERIOD_S if watchdog_s is None else min(CHECK_PERIOD_S, watchdog_s / 3)
        ready = failed = False
        while not self._closed.wait(period_s):
            states = [view.pipeline.state for view in self.views.values()]
            if not ready and any(view.newest is not None for view in self.views.values()):
                ready = True
                self._systemd.notify("READY=1")
            if ready and PipelineState.STALLED not in states:
                self._systemd.notify("WATCHDOG=1")
            if not failed and all(state is PipelineState.FAILED for state in states):
                failed = True
                if self._on_failed is not None:
                    self._on_failed()
        self._systemd.notify("STOPPING=1")


def check_name(name: str) -> None:
    """Refuses what cannot be the name of a camera in addresses, metrics and folders.

    Args:
        name: of a camera.

    Raises:
        ServerError: it has other characters than letters, digits, "_" and "-", or more than 64.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ServerError(f"camera '{shortened(name)}': a name has 1 to 64 letters, digits, '_' and '-'")


def _tile(channel: Channel, done: FrameResult) -> EncodedPicture:
    picture = channel.picture(done)
    factor = -(-picture.rgb.shape[1] // _WIDEST)
    if factor > 1:
        picture = replace(picture, rgb=np.asarray(Image.fromarray(picture.rgb).reduce(factor)))
    return EncodedPicture(encode_jpeg(picture), picture.sequence, picture.timestamp_ns)
