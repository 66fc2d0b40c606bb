"""How others find objects: in a picture, which an ISP makes first.

The network is the detector itself, fed with the planes of the picture in the place of the mosaic's, so that it costs
the same; what differs is what comes before it. Boxes are decoded by the same kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_isp.bench.frames import MemoryCamera
from edge_isp.errors import CameraError
from edge_isp.frame import RawFrame
from edge_isp.models.card import TensorCard
from edge_isp.results import Detections

# What makes the picture where a network does.
_ISP = "rfdcsanet-s"

# Finds objects in a picture, uint8 (height, width, 3).
FindObjects = Callable[[NDArray[np.uint8]], Detections]


def objects_in_pictures(model: str, frame: RawFrame) -> FindObjects:
    """Makes a picture smaller with OpenCV, takes the planes of a mosaic out of it, and runs the detector.

    Args:
        model: the name of the detector.
        frame: of the size of the pictures.

    Raises:
        ModelError: there is no such model, or it is no detector.
    """
    import cv2

    from edge_isp.engines.litert import LiteRtEngine
    from edge_isp.kernels.resample import letterbox
    from edge_isp.models.card import find_model
    from edge_isp.tasks.detect import DetectTask

    card = find_model(model, frame.sensor)
    task = DetectTask(card)
    shape = task.input_shape(frame.format)
    engine = LiteRtEngine(card.path, shape=shape)
    top, left, height, width = letterbox((frame.format.height // 2, frame.format.width // 2), shape[1:3])
    table = light_table(card.input)
    tensor = np.zeros(shape, np.int8)
    inside = tensor[0, top : top + height, left : left + width]

    def find(picture: NDArray[np.uint8]) -> Detections:
        small = cv2.resize(picture, (2 * width, 2 * height), interpolation=cv2.INTER_AREA)
        take_planes(small.astype(np.uint8, copy=False), table, inside)
        return task.decode(engine.run([tensor]), frame, tensor)

    return find


def light_table(source: TensorCard) -> NDArray[np.int8]:
    """From the values of a picture in sRGB to the codes of the same light in a model's input.

    Args:
        source: the model's input.
    """
    light = np.arange(256) / 255
    light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    codes = np.sqrt(light) / source.scale + source.zero_point
    return np.clip(np.rint(codes), -128, 127).astype(np.int8)


def take_planes(picture: NDArray[np.uint8], table: NDArray[np.int8], out: NDArray[np.int8]) -> None:
    """Takes the planes R, Gr, Gb, B out of a picture, each at its place in a mosaic's cells of 2x2 pixels.

    Args:
        picture: (2 * h, 2 * w, 3).
        table: see `light_table`.
        out: (h, w, 4).
    """
    for plane, (y, x, colour) in enumerate(((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2))):
        out[..., plane] = table[picture[y::2, x::2, colour]]


def software_isp(model: str, frame: RawFrame) -> Callable[[RawFrame], NDArray[Any]]:
    """No network: a picture as libcamera's software ISP makes it on the CPU, with OpenCV.

    Like it, this reads the high eight bits of each packed code, demosaics them bilinearly, and applies black level,
    white balance and gamma as a table for each colour.
    Source: libcamera, src/libcamera/software_isp/debayer_cpu.cpp, its functions for packed RAW10.

    Args:
        model: is not used.
        frame: is like those that will be developed.
    """
    import cv2

    width, height = frame.format.width, frame.format.height
    assert frame.colour_gains is not None
    red, blue = frame.colour_gains
    black, white = frame.black_level[0] / 4, frame.white_level / 4
    steps = (np.arange(256) - black) / (white - black)
    tables = [255 * np.clip(steps * gain, 0, 1) ** (1 / 2.2) for gain in (red, 1.0, blue)]
    table = np.rint(np.stack(tables, -1)).astype(np.uint8)[None]

    def develop(leased: RawFrame) -> NDArray[Any]:
        mosaic = np.ascontiguousarray(leased.data.reshape(height, width // 4, 5)[..., :4]).reshape(height, width)
        return np.asarray(cv2.LUT(cv2.cvtColor(mosaic, cv2.COLOR_BayerRGGB2RGB), cast("Any", table)))

    return develop


def objects_by_software_isp(model: str, frame: RawFrame) -> Callable[[RawFrame], Any]:
    """Objects in the pictures of `software_isp`.

    Args:
        model: the name of the detector.
        frame: is like those that will be developed.
    """
    develop, find = software_isp(model, frame), objects_in_pictures(model, frame)
    return lambda leased: find(develop(leased))


def objects_by_isp(model: str, frame: RawFrame) -> Callable[[RawFrame], Any]:
    """Objects in a picture that an ISP has made for nothing: it lies ready in memory and is copied, as picamera2 does.

    Args:
        model: the name of the detector.
        frame: of the size of the picture.
    """
    find = objects_in_pictures(model, frame)
    picture = np.random.default_rng(0).integers(0, 256, (frame.format.height, frame.format.width, 3), np.uint8)
    return lambda leased: find(picture.copy())


def objects_by_picamera2(model: str, frame: RawFrame) -> Callable[[RawFrame], Any]:
    """Objects in the main stream of a camera, which the board's ISP makes, at the camera's pace.

    Args:
        model: the name of the detector.
        frame: of the size of the picture.

    Raises:
        CameraError: there is no camera.
    """
    from picamera2 import Picamera2

    if not Picamera2.global_camera_info():
        raise CameraError("there is no camera")
    camera = Picamera2()
    size = (frame.format.width, frame.format.height)
    camera.configure(camera.create_video_configuration(main={"size": size, "format": "BGR888"}, buffer_count=6))
    camera.start()
    find = objects_in_pictures(model, frame)
    return lambda leased: find(camera.capture_array("main"))  # BGR888 is R, G, B in memory


@contextmanager
def objects_through_pictures(model: str, camera: MemoryCamera) -> Iterator[Iterator[int]]:
    """Time stamps of frames that our pipeline makes pictures of, in each of which objects are then found.

    Args:
        model: the name of the detector.
        camera: gives the frames.
    """
    from edge_isp.pipeline import Pipeline, QueuePolicy, StreamOptions

    first = camera.read()
    assert first is not None
    find = objects_in_pictures(model, first)

    def found(pipeline: Pipeline) -> Iterator[int]:
        for done in pipeline:
            find(done.picture.rgb)
            yield done.timestamp_ns

    with Pipeline(camera, _ISP, StreamOptions(policy=QueuePolicy.BLOCK)) as pipeline:
        yield found(pipeline)
