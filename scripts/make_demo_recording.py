"""Makes the recording that ships in the package, `edge_isp/demo/spices.raw` and its sidecar.

    python scripts/make_demo_recording.py the-spices-of-life.jpg

The photograph is "The Spices of Life" from the CC0 collection budgie-backgrounds (see NOTICE); three views of it go
through the forward model of the IMX219 under daylight, at analogue gain 2. It is in no training set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_isp.cameras.synthetic import SyntheticCamera

DEMO = Path(__file__).parent.parent / "edge_isp" / "demo" / "spices.raw"
WIDTH, HEIGHT, FRAMES = 832, 576, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    photo = parser.parse_args().photo
    with SyntheticCamera(photo, width=WIDTH, height=HEIGHT, fps=None, analogue_gain=2.0, seed=1) as camera:
        frames = [frame for frame in (camera.read() for _ in range(VIEW_EVERY * (FRAMES - 1) + 1)) if frame]
    chosen = frames[::VIEW_EVERY]
    DEMO.parent.mkdir(exist_ok=True)
    DEMO.write_bytes(b"".join(frame.data.tobytes() for frame in chosen))
    layout, first = chosen[0].format, chosen[0]
    assert first.colour_gains is not None
    red, blue = first.colour_gains
    DEMO.with_suffix(".toml").write_text(
        f"""[format]
width = {layout.width}
height = {layout.height}
cfa = "{layout.cfa}"
bit_depth = {layout.bit_depth}
packing = "{layout.packing}"
stride = {layout.stride}

[sensor]
name = "{first.sensor}"
lens_shading = false  # simulated without a lens

[frame]
colour_gains = [{red:.4f}, {blue:.4f}]
colour_temperature_k = {first.colour_temperature_k:.0f}
analogue_gain = {first.analogue_gain}
""",
        encoding="utf-8",
    )


# Views a second apart: the camera's clock ticks 30 times a second where it is not paced.
VIEW_EVERY = 30

if __name__ == "__main__":
    main()
