"""The page in a real browser: headless Chromium, driven by playwright."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_isp.server.tone import Tone
from edge_isp.tracking.assignment import overlaps
from tests.server.support import bird_at, live_view

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package 'playwright'")
pytest.importorskip("uvicorn", reason="needs the extra [serve]")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"),
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# A box's colour is bright, its labels and the rest of the canvas are not of that colour.
OVERLAY = """() => {
  const player = window.players.network, canvas = player.overlay;
  return {sequence: player.sequence, width: canvas.width, height: canvas.height,
          png: canvas.toDataURL("image/png").split(",")[1]};
}"""

MEAN_GREEN = """(() => {
  const canvas = window.players.network.canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (let index = 1; index < data.length; index += 4) sum += data[index];
  return 4 * sum / data.length;
})()"""
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    before_s = 5.0 if importlib.util.find_spec("mcap") else 0.0
    with live_view(tmp_path_factory.mktemp("recordings"), before_s=before_s) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, served: Any) -> Iterator[Any]:
    """The page on a desktop, showing pictures; what its console reports as an error fails the test."""
    yield from opened(browser, served[1].url, DESKTOP)


@pytest.fixture
def phone(browser: Any, served: Any) -> Iterator[Any]:
    """The page on a phone."""
    yield from opened(browser, served[1].url, PHONE, is_mobile=True, has_touch=True, device_scale_factor=2)


def opened(browser: Any, url: str, size: dict[str, int], **device: Any) -> Iterator[Any]:
    context = browser.new_context(viewport=size, **device)
    page, errors = context.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: None if is_endless(request.url) else errors.append(request.url))
    page.goto(url)
    wait(page, "window.players && window.players.network.pictures > 0")
    yield page
    context.close()
    assert not errors, errors


def is_endless(url: str) -> bool:
    """Whether a request ends by being given up."""
    return "/stream" in url or url.endswith("/detections")


def wait(page: Any, condition: str, argument: object = None) -> None:
    """Waits until an expression or a function is true; the page's policy refuses playwright's."""
    for _ in range(PATIENCE_MS // 50):
        if page.evaluate(condition, argument):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {condition}")


def next_picture(page: Any) -> None:
    """Waits for another picture."""
    wait(page, "before => window.players.network.pictures > before", page.evaluate("window.players.network.pictures"))


def test_the_picture_moves_and_the_numbers_change(page: Any) -> None:
    before = page.evaluate("window.players.network.canvas.toDataURL()")
    numbers = page.inner_text("#models")
    wait(page, "window.players.network.pictures > 3")
    assert page.evaluate("window.players.network.canvas.toDataURL()") != before
    wait(page, "before => document.getElementById('models').innerText !== before", numbers)
    assert "frames/s" in page.inner_text("#models")
    assert "XNNPACK" in page.inner_text("#models")


def test_the_box_sits_on_the_bird(page: Any) -> None:
    """The pixels of the frame that is drawn, against where the scene's bird is in the frame that is shown."""
    wait(page, "window.players.network.overlay.width > 300")
    best = 0.0
    for _ in range(20):
        next_picture(page)
        shown = page.evaluate(OVERLAY)
        drawn = drawn_box(shown)
        if drawn is not None:
            best = max(best, float(overlaps(drawn[None], bird_at(shown["sequence"])[None])[0, 0]))
        if best > 0.7:
            break
    assert best > 0.7


def drawn_box(shown: dict[str, Any]) -> np.ndarray[Any, Any] | None:
    """The largest box on the canvas, in pixels of the picture: columns and rows that are mostly of one colour."""
    import base64

    overlay = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["png"]))).convert("RGBA"))
    lit = overlay[..., 3] > 200
    columns, rows = (np.flatnonzero(lit.sum(axis) > 0.25 * lit.shape[axis]) for axis in (0, 1))
    if len(columns) < 2 or len(rows) < 2:
        return None
    scale = 640 / shown["width"]
    box: np.ndarray[Any, Any] = scale * np.array([columns[0], rows[0], columns[-1], rows[-1]], float)
    return box


def test_sliders_change_the_camera(page: Any, served: Any) -> None:
    view, _ = served
    assert view.newest.raw.exposure_ns == 10_000_000
    slide(page, "exposure", 300)
    slide(page, "gain", 500)
    wait(page, "document.getElementById('gain-value').textContent.startsWith('4.0')")
    changed = view.controls.values(view.newest.raw)
    for _ in range(100):
        changed = view.controls.values(view.newest.raw)
        if changed.analogue_gain > 3.9 and changed.exposure_ns < 9_000_000:  # they take effect one after the other
            break
        page.wait_for_timeout(100)
    least, greatest = changed.limits.exposure_ns
    assert changed.exposure_ns == pytest.approx(least * (greatest / least) ** 0.3, rel=0.01)
    assert changed.analogue_gain == pytest.approx(4.0, rel=0.01)
    page.check("#auto-exposure")
    for _ in range(100):
        if abs(view.newest.raw.analogue_gain - 4.0) > 0.1:
            break
        page.wait_for_timeout(100)
    assert view.controls.values(view.newest.raw).auto_exposure
    assert view.newest.raw.analogue_gain != pytest.approx(4.0, rel=0.01)
    page.uncheck("#auto-exposure")
    wait(page, "!document.getElementById('auto-exposure').checked")


def slide(page: Any, name: str, value: int) -> None:
    page.evaluate(
        "([name, value]) => { const slider = document.getElementById(name); slider.value = value; "
        "slider.dispatchEvent(new Event('input', {bubbles: true})); }",
        [name, value],
    )


def test_tone_changes_what_is_shown(page: Any) -> None:
    mean = MEAN_GREEN
    before = page.evaluate(mean)
    slide(page, "brightness", 2)
    wait(page, f"{mean} > {before} + 30")
    page.click("#reset-tone")
    wait(page, f"Math.abs({mean} - {before}) < 15")


def test_the_tone_curve_is_chosen(page: Any, served: Any) -> None:
    page.select_option("#curve", "srgb")
    for _ in range(100):
        if served[0].channels["network"].newest.picture.applied.tone.value == "srgb curve":
            break
        page.wait_for_timeout(100)
    assert served[0].status().tone.curve == "srgb"
    assert served[0].channels["network"].newest.picture.applied.tone.value == "srgb curve"
    page.locator("#curve").blur()
    served[0].set_tone(Tone(), "camera")  # by another client
    wait(page, "document.getElementById('curve').value === 'camera'")


def test_the_button_of_events(page: Any, served: Any) -> None:
    pytest.importorskip("mcap", reason="needs the extra [recording]")
    button = page.locator("#recording button[data-kind=event]")
    assert button.inner_text() == "Keep the last 5 s"
    page.keyboard.press("e")
    wait(page, "document.querySelector('[data-kind=event]').textContent === 'Recording an event'")
    wait(page, "document.querySelector('[data-kind=event]').textContent === 'Keep the last 5 s (1)'")
    assert served[0].status().events.files == 1


def test_frames_that_a_recording_loses_are_shown(page: Any) -> None:
    shown = page.evaluate("""() => {
      const running = {file: "a.mcap", seconds: 3, frames: 40, lost: 0};
      const texts = [0, 7].map((lost) => {
        showRecording({running: {...running, lost}, kinds: ["mcap"], error: ""}, null);
        return document.querySelector("#recording button").textContent;
      });
      return texts;
    }""")
    assert shown == ["Stop a.mcap: 3 s, 40 frames", "Stop a.mcap: 3 s, 40 frames, 7 lost"]


def test_events_that_were_refused_are_asked_for_again(page: Any) -> None:
    """A browser closes them for good where the server says that it is busy."""
    page.evaluate("() => { events.close(); boxes.clear(); }")
    wait(page, "events.readyState === EventSource.OPEN && boxes.size > 0")


def test_snapshots_are_whole_files(page: Any, tmp_path: Path) -> None:
    rawpy = pytest.importorskip("rawpy")
    for suffix in ("jpg", "png", "dng"):
        with page.expect_download() as download:
            page.click(f"#snapshot-{suffix}")
        path = tmp_path / f"snapshot.{suffix}"
        download.value.save_as(path)
        if suffix == "dng":
            with rawpy.imread(str(path)) as raw:
                assert raw.raw_image.shape == (480, 640)
                assert raw.white_level == 1023
        else:
            with Image.open(path) as image:
                image.load()
                assert image.size == (640, 480)


def test_views_and_keys(page: Any) -> None:
    page.keyboard.press("v")
    wait(page, "window.players.classical.pictures > 0")
    assert page.is_hidden("#figure-network")
    page.keyboard.press("v")
    next_picture(page)
    assert page.is_visible("#figure-network")
    assert page.is_visible("#figure-classical")
    page.keyboard.press("b")
    assert page.get_attribute("#show-boxes", "aria-pressed") == "false"
    page.keyboard.press("b")
    page.keyboard.press("f")
    wait(page, "document.fullscreenElement && document.fullscreenElement.id === 'stage'")
    page.keyboard.press("f")
    wait(page, "!document.fullscreenElement")


@pytest.mark.parametrize("device", ["page", "phone"])
def test_accessibility_and_screenshot(device: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    page = request.getfixturevalue(device)
    wait(page, "window.players.network.pictures > 2")
    folder = Path(os.environ.get("EDGE_ISP_SCREENSHOTS", tmp_path))
    page.screenshot(path=str(folder / f"live-{device}.png"), full_page=device == "phone")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    axe = os.environ.get("EDGE_ISP_AXE")
    if not axe or not Path(axe).is_file():
        pytest.skip("needs EDGE_ISP_AXE, the path of axe-core's axe.min.js (npm pack axe-core)")
    page.evaluate(Path(axe).read_text("utf-8"))
    found = page.evaluate("axe.run()")
    faults = [(each["id"], each["impact"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]
    assert not [fault for fault in faults if fault[1] in ("serious", "critical")], json.dumps(faults, indent=1)
