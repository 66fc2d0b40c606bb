"""Makes docs/images/live-view.jpg: the page of `edge-isp serve` in Chromium, with the scene that ships.

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
from edge_isp.server.live_view import LiveView
from edge_isp.server.serving import LiveServer


def main(chromium: str) -> None:
    out = Path(__file__).parents[1] / "docs" / "images" / "live-view.jpg"
    camera = partial(open_camera, f"synthetic:{demo_scene()},fps=5,width=640,height=480")
    models = [ModelOptions("rfdcsanet-s"), ModelOptions("raw-detector", track=True)]
    with (
        tempfile.TemporaryDirectory() as folder,
        LiveView(camera, models, recordings=Path(folder)) as view,
        sync_playwright() as driver,
    ):
        view.start()
        with LiveServer(view, port=0) as server:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1180, "height": 760})
            page.goto(server.url)
            page.wait_for_timeout(15_000)
            page.screenshot(path=str(out), type="jpeg", quality=80)
            browser.close()
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
