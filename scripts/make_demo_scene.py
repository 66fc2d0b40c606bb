"""Makes edge_isp/demo/scene.jpg, what `edge-isp serve` shows without a camera, from a photograph.

python scripts/make_demo_scene.py perched-osprey.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

# The synthetic camera moves over this scene with frames of 640 x 480.
SIZE = (832, 624)

# The part of the photograph with the bird, of its width and height: left, top, right, bottom.
PART = (0.0, 0.0, 0.75, 1.0)


def main(photo: str) -> None:
    out = Path(__file__).parents[1] / "edge_isp" / "demo" / "scene.jpg"
    with Image.open(photo) as image:
        left, top, right, bottom = PART
        box = (left * image.width, top * image.height, right * image.width, bottom * image.height)
        scene = image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS, box=box)
        scene.save(out, quality=80, optimize=True)
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
