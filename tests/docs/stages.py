"""What a page's snippets take for granted: a camera on the board, a motor, a node of ROS. Here they are stand-ins.

A stage runs before the snippet of its number, in the namespace that the snippets of a page share.
"""

from __future__ import annotations

_PICAMERA2 = """
import inspect, edge_isp

_real = edge_isp.Picamera2Camera

def _stand_in(*arguments, **options):
    inspect.signature(_real).bind(*arguments, **options)  # what is asked for has to exist
    return edge_isp.SyntheticCamera("photo.jpg", width=640, height=480, fps=None, frames=3)

edge_isp.Picamera2Camera = _stand_in
"""
_V4L2 = """
import inspect, edge_isp

_real = edge_isp.V4l2Camera

class _Settings:
    def set(self, values): ...

def _stand_in(*arguments, **options):
    inspect.signature(_real).bind(*arguments, **options)
    camera = edge_isp.SyntheticCamera("photo.jpg", width=640, height=480, fps=None, frames=3)
    camera.controls = _Settings()
    return camera

edge_isp.V4l2Camera = _stand_in
"""
_FEW_FRAMES = """
import edge_isp

def open_camera():
    return edge_isp.SyntheticCamera("photo.jpg", width=640, height=480, fps=None, frames=3)

steer = show = keep = lambda done: None
"""

STAGES: dict[tuple[str, int], str] = {
    ("docs/cameras.md", 0): _PICAMERA2,
    ("docs/cameras.md", 1): _V4L2,
    ("docs/cameras.md", 6): _FEW_FRAMES + "camera = open_camera()",
    ("docs/sinks.md", 0): _FEW_FRAMES,
    ("docs/sinks.md", 1): """
import itertools, edge_isp
from edge_isp import develop, demo_recording
from edge_isp.results import Picture

_numbers = iter(range(3))

def _read(name):
    for number in _numbers:
        return Picture(develop(demo_recording()), "camera", number, 0)
    raise EndOfSnippetError

edge_isp.read_shared = _read
""",
    ("docs/streaming.md", 0): _PICAMERA2,
    ("docs/streaming.md", 1): _FEW_FRAMES,
    ("docs/streaming.md", 2): """
from types import SimpleNamespace
from edge_isp import StreamOptions, WallClock

node = SimpleNamespace(get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=0)))
""",
    ("docs/streaming.md", 3): """
class _Driving:
    left = 3

    def __bool__(self):
        self.left -= 1
        return self.left >= 0

driving, done, steer = _Driving(), None, print
""",
    ("docs/streaming.md", 4): "send = print\npipeline.start()",
    ("docs/streaming.md", 5): """
import edge_isp
from edge_isp import pair

left, right = (edge_isp.SyntheticCamera("photo.jpg", width=64, height=64, fps=30, frames=3) for _ in range(2))

def use(*frames):
    for frame in frames:
        frame.release()
""",
    ("docs/streaming.md", 6): _FEW_FRAMES,
    ("docs/streaming.md", 7): _FEW_FRAMES,
    ("docs/kernels.md", 0): """
import numpy as np
from edge_isp.kernels.tables import encoding_table

data, tensor = np.zeros((1080, 2400), np.uint8), np.zeros((540, 960, 4), np.int8)
tables = encoding_table(
    bit_depth=10, black_level=[64] * 4, white_level=1023, gains=(1, 1, 1), curve="sqrt", scale=1 / 255, zero_point=-128
)
""",
    ("docs/reference/python/cameras.md", 1): """
from contextlib import closing
from edge_isp import Recorder, demo_recording, open_camera

with closing(Recorder("ride.mcap")) as recorder, open_camera(demo_recording()) as camera:
    while (frame := camera.read()) is not None:
        with frame:
            recorder.frame(frame)
""",
}
