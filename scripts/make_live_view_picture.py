"""Makes live-view.jpg and cameras.jpg in docs/images: `edge-isp serve` in Chromium, with the scene that ships.

python scripts/make_live_view_picture.py /usr/bin/chromium
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from playwright.sync_api import sync_playwright

from edge_isp import ModelOptions, open_camera
from edge_isp.cameras.spec import demo_scene
from edge_isp.server.cameras_view import CamerasView
from edge_isp.server.live_view import LiveView
from edge_isp.server.serving import LiveServer

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def main(chromium: str) -> None:
    camera = partial(open_camera, f"synthetic:{demo_scene()},fps=5,width=640,height=480")
    models = [ModelOptions("rfdcsanet-s"), ModelOptions("raw-detector", track=True)]
    with tempfile.TemporaryDirectory() as folder, LiveView(camera, models, recordings=Path(folder)) as door:
        door.start()
        with LiveServer(door, port=0) as server:
            take(chromium, server.url, IMAGES / "live-view.jpg", (1180, 760))
        with (
            LiveView(camera, models, recordings=Path(folder), in_turn_with=door) as yard,
            CamerasView({"door": door, "yard": yard}) as view,
        ):
            view.start()
            with LiveServer(view, port=0) as server:
                take(chromium, server.url, IMAGES / "cameras.jpg", (860, 540))


def take(chromium: str, url: str, out: Path, size: tuple[int, int]) -> None:
    """Takes a picture of a page.

    Args:
        chromium: path of the browser.
        url: of the page.
        out: the picture.
        size: of the page, in pixels.
    """
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.goto(url)
        page.wait_for_timeout(15_000)
        page.screenshot(path=str(out), type="jpeg", quality=80)
        browser.close()
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
