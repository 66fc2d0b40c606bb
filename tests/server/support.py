"""What tests of the live view share: a view of the shipped scene, its server, and the truth about the scene."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_isp.cameras.base import Camera
from edge_isp.cameras.scene import view_at
from edge_isp.cameras.spec import demo_scene, open_camera
from edge_isp.pipeline import ModelOptions

WIDTH, HEIGHT, FPS = 640, 480, 5.0
# The bird in the scene, by hand: x0, y0, x1, y1 in its pixels.
BIRD = (327.0, 129.0, 503.0, 528.0)


def open_scene(fps: float = FPS) -> Camera:
    """The synthetic camera in front of the shipped scene.

    Args:
        fps: frames per second.
    """
    return open_camera(f"synthetic:{demo_scene()},fps={fps},width={WIDTH},height={HEIGHT}")


def bird_at(sequence: int, fps: float = FPS) -> np.ndarray[Any, Any]:
    """Where the bird is in a frame, as x0, y0, x1, y1 in pixels.

    Args:
        sequence: of the frame.
        fps: of the camera.
    """
    with Image.open(demo_scene()) as scene:
        view = view_at(sequence / fps, scene.size, (WIDTH, HEIGHT))
    box = (np.array(BIRD) - np.tile([view.x, view.y], 2)) * WIDTH / view.width
    clipped: np.ndarray[Any, Any] = np.clip(box, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
    return clipped


@contextmanager
def live_view(
    folder: Path, *, models: list[ModelOptions] | None = None, fps: float = FPS, **settings: Any
) -> Iterator[Any]:
    """A live view that runs, with its server as `view.server`.

    Args:
        folder: of recordings.
        models: that run; None is the detector with tracking, and the network for pictures.
        fps: of the camera.
        settings: of the server.
    """
    from edge_isp.server.live_view import LiveView
    from edge_isp.server.serving import LiveServer

    models = models or [ModelOptions("rfdcsanet-s", threads=1), ModelOptions("raw-detector", threads=1, track=True)]
    with LiveView(partial(open_scene, fps), models, recordings=folder) as view:
        view.start()
        with LiveServer(view, port=0, **settings) as server:
            yield view, server
