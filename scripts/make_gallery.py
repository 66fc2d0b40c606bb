"""Makes the pictures of docs/gallery.md and of the README in docs/images.

    python scripts/make_gallery.py

All come from what ships in the package: the recording of spices and the photograph of a bird (CC0, see NOTICE).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import edge_isp
from edge_isp import Camera, Picture, RawFrame, ReplayCamera, SyntheticCamera, annotate, detect
from edge_isp.cameras.spec import demo_scene
from edge_isp.kernels.unpack import unpack
from edge_isp.tasks.classical import ClassicalIsp

Rgb = NDArray[np.uint8]

IMAGES = Path(__file__).parents[1] / "docs" / "images"
GAP = 8
HIGH_GAIN = 16.0
# Left, top, right and bottom of what is shown twice as large.
DETAIL = (270, 80, 470, 230)


def main() -> None:
    with ReplayCamera(edge_isp.demo_recording()) as camera:
        frame = first(camera)
    before, after = mosaic(frame), edge_isp.develop(frame)
    save("gallery-raw-and-result.jpg", before, after)
    save("gallery-mosaic.jpg", enlarged(before), enlarged(after))
    noisy = exposed(HIGH_GAIN)
    networks = [edge_isp.develop(noisy, model=model) for model in ("rfdcsanet-t", "rfdcsanet-s", "rfdcsanet-m")]
    save("gallery-noise.jpg", *(enlarged(each) for each in (ClassicalIsp().develop(noisy).rgb, *networks)))
    bright = exposed(1.0)
    picture = Picture(edge_isp.develop(bright), bright.source, bright.sequence, bright.timestamp_ns)
    boxed = annotate(picture, detect(bright), with_supervision=False)
    save("gallery-detection.jpg", boxed.rgb)


def exposed(gain: float) -> RawFrame:
    """The bird as an IMX219 sees it at a gain."""
    with SyntheticCamera(demo_scene(), width=640, height=480, fps=None, analogue_gain=gain, seed=1) as camera:
        return first(camera)


def first(camera: Camera) -> RawFrame:
    """A copy of a camera's first frame."""
    frame = camera.read()
    assert frame is not None
    with frame:
        return frame.copy()


def mosaic(frame: RawFrame) -> Rgb:
    """The codes of a frame, each in the colour of its filter, brightened to be seen."""
    layout = frame.format
    codes = unpack(frame.data, layout.layout)
    light = np.clip((codes - min(frame.black_level)) / (frame.white_level - min(frame.black_level)), 0, 1) ** (1 / 2.2)
    shown = np.zeros((*codes.shape, 3), np.uint8)
    for place, colour in enumerate(str(layout.cfa)):
        rows, columns = np.s_[place // 2 :: 2], np.s_[place % 2 :: 2]
        shown[rows, columns, "RGB".index(colour)] = np.rint(255 * light[rows, columns])
    return shown


def enlarged(rgb: Rgb) -> Rgb:
    left, top, right, bottom = DETAIL
    return np.repeat(np.repeat(rgb[top:bottom, left:right], 2, axis=0), 2, axis=1)


def save(name: str, *pictures: Rgb) -> None:
    """Pictures beside each other, 1280 pixels wide at most."""
    gap = np.full((len(pictures[0]), GAP, 3), 255, np.uint8)
    image = Image.fromarray(np.concatenate([part for each in pictures for part in (gap, each)][1:], axis=1))
    image.thumbnail((1280, 1280))
    image.save(IMAGES / name, quality=82)
    print(f"{name}: {image.width}x{image.height}, {(IMAGES / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
