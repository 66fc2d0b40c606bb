"""Photographs with objects of three classes that COCO does not have, drawn into them, and their exact labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from edge_isp.training.simulation.samples import load_photo

NAMES = ("traffic cone", "chequered marker", "hazard sign")

# Side in pixels at which an object is drawn before it is posed.
_SIDE = 192


def write_own_classes(photos: Sequence[Path], folder: Path, *, seed: int) -> None:
    """Writes `images/STEM.png` and YOLO's `labels/STEM.txt`; one to four objects each, and some that have no class.

    Args:
        photos: that objects are drawn into.
        folder: is made.
        seed: of what is drawn where.
    """
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(photos):
        image, lines = draw_objects(load_photo(path), np.random.default_rng([seed, number]))
        Image.fromarray(image).save(folder / "images" / f"{path.stem}.png")
        (folder / "labels" / f"{path.stem}.txt").write_text("".join(f"{line}\n" for line in lines))


def draw_objects(photo: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[str]]:
    """A photograph with objects, and their lines in YOLO's format.

    Args:
        photo: uint8 (height, width, 3).
        rng: that chooses.
    """
    canvas = photo.astype(np.float32)
    height, width = photo.shape[:2]
    taken: list[tuple[int, int, int, int]] = []
    lines = []
    for class_id in [*rng.integers(0, len(NAMES), rng.integers(1, 5)), *([-1] * int(rng.integers(0, 3)))]:
        sprite = _posed(int(class_id), rng, min(height, width))
        alpha = sprite[..., 3:] / 255
        h, w = alpha.shape[:2]
        if h >= height or w >= width:
            continue
        y, x = int(rng.integers(height - h)), int(rng.integers(width - w))
        if any(x < x1 and x0 < x + w and y < y1 and y0 < y + h for x0, y0, x1, y1 in taken):
            continue
        taken.append((x, y, x + w, y + h))
        canvas[y : y + h, x : x + w] += alpha * (sprite[..., :3] - canvas[y : y + h, x : x + w])
        if class_id >= 0:
            lines.append(
                f"{class_id} {(x + w / 2) / width:.6f} {(y + h / 2) / height:.6f} {w / width:.6f} {h / height:.6f}"
            )
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8), lines


def _posed(class_id: int, rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """An object in a random pose, size and light: (height, width, 4), cut to where it is."""
    drawn = (_cone, _marker, _sign, _distraction)[class_id](rng)
    # A random view: each corner of the drawing moves by up to a fifth of its side; then it is turned.
    corners = np.array([(0, 0), (0, _SIDE), (_SIDE, _SIDE), (_SIDE, 0)]) + rng.uniform(-0.2, 0.2, (4, 2)) * _SIDE
    view = drawn.transform(drawn.size, Image.Transform.QUAD, corners.ravel().tolist(), Image.Resampling.BICUBIC)
    view = view.rotate(float(rng.uniform(-35, 35)), Image.Resampling.BICUBIC, expand=True)
    view = view.crop(view.getchannel("A").point(lambda a: 255 * (a > 127)).getbbox())
    size = side * float(np.exp(rng.uniform(np.log(0.07), np.log(0.45))))
    factor = size / max(view.size)
    view = view.resize((max(6, round(view.width * factor)), max(6, round(view.height * factor))), Image.Resampling.BOX)
    if rng.random() < 0.4:
        colours = view.convert("RGB").filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.2))))
        view = Image.merge("RGBA", (*colours.split(), view.getchannel("A")))
    out = np.asarray(view).astype(np.float32)
    ramp = np.linspace(rng.uniform(0.4, 1.1), rng.uniform(0.4, 1.1), out.shape[1])[None, :, None]
    out[..., :3] *= float(rng.uniform(0.35, 1.05)) * ramp * rng.uniform(0.85, 1.15, 3)
    out[..., :3] += rng.normal(0, 4, out.shape[:2])[..., None]
    return out.clip(0, 255)


def _blank() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGBA", (_SIDE, _SIDE), (0, 0, 0, 0))
    return image, ImageDraw.Draw(image)


def _cone(rng: np.random.Generator) -> Image.Image:
    image, draw = _blank()
    colour = (int(rng.integers(200, 256)), int(rng.integers(50, 140)), int(rng.integers(0, 60)))
    left, right, top, foot = 50, _SIDE - 50, 34, _SIDE - 46
    draw.rectangle((34, foot, _SIDE - 34, foot + 14), fill=tuple(int(c * 0.7) for c in colour))
    draw.polygon([(left, foot), (right, foot), (_SIDE // 2 + 7, top), (_SIDE // 2 - 7, top)], fill=colour)
    for share in (0.3, 0.62)[: int(rng.integers(1, 3))]:
        y0, y1 = top + share * (foot - top), top + (share + 0.15) * (foot - top)
        half0, half1 = (7 + (right - left - 14) / 2 * s for s in (share, share + 0.15))
        middle = _SIDE / 2
        band = [(middle - half0, y0), (middle + half0, y0), (middle + half1, y1), (middle - half1, y1)]
        draw.polygon(band, fill=(235, 235, 235))
    return image


def _marker(rng: np.random.Generator) -> Image.Image:
    image, draw = _blank()
    draw.rectangle((34, 34, _SIDE - 34, _SIDE - 34), fill=(240, 240, 240))
    cells, first = int(rng.integers(4, 7)), 44
    step = (_SIDE - 2 * first) / cells
    for row in range(cells):
        for column in range(cells):
            if (row + column) % 2 == 0:
                x, y = first + column * step, first + row * step
                draw.rectangle((x, y, x + step, y + step), fill=(20, 20, 20))
    return image


def _sign(rng: np.random.Generator) -> Image.Image:
    image, draw = _blank()
    yellow = (int(rng.integers(220, 256)), int(rng.integers(180, 215)), int(rng.integers(0, 40)))
    draw.polygon([(_SIDE / 2, 36), (_SIDE - 32, _SIDE - 44), (32, _SIDE - 44)], fill=(25, 25, 25))
    draw.polygon([(_SIDE / 2, 54), (_SIDE - 49, _SIDE - 54), (49, _SIDE - 54)], fill=yellow)
    middle = _SIDE / 2 + float(rng.uniform(-3, 3))
    draw.polygon([(middle - 8, 84), (middle + 8, 84), (middle + 3, 116), (middle - 3, 116)], fill=(25, 25, 25))
    draw.ellipse((middle - 5, 120, middle + 5, 130), fill=(25, 25, 25))
    return image


def _distraction(rng: np.random.Generator) -> Image.Image:
    """Of no class, and somewhat like one: a plain triangle, a striped or a plain board."""
    image, draw = _blank()
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    kind = rng.integers(3)
    if kind == 0:
        draw.polygon([(_SIDE / 2, 36), (_SIDE - 32, _SIDE - 44), (32, _SIDE - 44)], fill=colour)
        return image
    draw.rectangle((34, 34, _SIDE - 34, _SIDE - 34), fill=colour)
    if kind == 1:
        for y in range(44, _SIDE - 44, 24):
            draw.rectangle((44, y, _SIDE - 44, y + 11), fill=(235, 235, 235))
    return image
