"""A stand-in for libcamera's Python bindings: a model, in plain Python, of what picamera2 asks of them.

It is not libcamera. It proves that picamera2 is used rightly, not that a Raspberry Pi delivers what is modelled here:
the layouts that its two kinds of board make of a request, the buffers, and frames exposed on a test's command. A test
plugs cameras in with `CameraManager.singleton().plug(...)` and exposes frames with `Camera.expose(...)`.
"""

from libcamera import controls as controls
from libcamera import properties as properties
from libcamera._libcamera import *  # noqa: F403
