"""Every block of Python and TOML in the documentation runs, or can be read, as it stands."""

from __future__ import annotations

import re
import shutil
import threading
import tomllib
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import edge_isp
from edge_isp.cameras.spec import demo_scene
from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.docs.stages import STAGES

PYTHON = blocks("python")
BY_PAGE = {page: [block for block in PYTHON if block.page == page] for page in dict.fromkeys(b.page for b in PYTHON)}
EXTRAS = {
    "docs/detector.md": "supervision",
    "docs/live-view.md": "starlette",
    "docs/reference/python/cameras.md": "mcap",
    "docs/reference/python/recordings.md": "mcap",
}


TUNING = """{"version": 2.0, "target": "bcm2835", "algorithms": [
    {"rpi.black_level": {"black_level": 4096}},
    {"rpi.noise": {"reference_constant": 0, "reference_slope": 2.78}},
    {"rpi.awb": {"ct_curve": [2850.0, 0.63, 0.39, 6500.0, 0.39, 0.67]}},
    {"rpi.ccm": {"ccms": [
        {"ct": 2850, "ccm": [2.0, -0.8, -0.2, -0.4, 1.6, -0.2, -0.1, -1.0, 2.1]},
        {"ct": 6500, "ccm": [1.9, -0.7, -0.2, -0.4, 1.7, -0.3, -0.1, -0.6, 1.7]}]}}
]}"""


class EndOfSnippetError(Exception):
    """Raised by a stand-in where a snippet would go on for ever."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the documentation's commands and snippets are run."""
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("Picamera2Camera", "V4l2Camera", "read_shared"):
        monkeypatch.setattr(edge_isp, name, getattr(edge_isp, name))  # put back what a stage replaces
    return tmp_path


def fill(folder: Path) -> None:
    """Puts the files into a folder that the pages speak of."""
    demo = edge_isp.demo_recording()
    (folder / "frames").mkdir()
    for suffix in (".raw", ".toml"):
        shutil.copy(demo.with_suffix(suffix), folder / "frames" / f"scene{suffix}")
    with Image.open(demo_scene()) as scene:
        scene.resize((2 * scene.width, 2 * scene.height)).save(folder / "photo.jpg")
    for name in ("imx477.json", "imx519.json"):
        (folder / name).write_text(TUNING)


@pytest.mark.parametrize("page", BY_PAGE)
def test_the_snippets_of_a_page_run(page: str, folder: Path) -> None:
    if page in EXTRAS:
        pytest.importorskip(EXTRAS[page], reason=f"{page} needs the package {EXTRAS[page]}")
    namespace: dict[str, Any] = {"__name__": "snippet", "EndOfSnippetError": EndOfSnippetError}
    with ExitStack() as opened:
        for block in BY_PAGE[page]:
            exec(STAGES.get((page, block.number), ""), namespace)
            code = compile(block.text, str(block), "exec")
            with suppress(EndOfSnippetError):
                exec(code, namespace)
            for pipeline in [each for each in namespace.values() if isinstance(each, edge_isp.Pipeline)]:
                opened.callback(pipeline.close)  # a later snippet may use it still
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("edge_isp watchdog")]


def test_every_stage_has_its_snippet() -> None:
    assert set(STAGES) <= {(block.page, block.number) for block in PYTHON}


def test_the_first_snippet_is_three_lines() -> None:
    first = blocks("python")[0]
    assert first.page == "README.md"
    assert len([line for line in first.text.splitlines() if line.strip()]) <= 3


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_can_be_read(block: Block) -> None:
    assert tomllib.loads(block.text)


def test_python_is_marked_as_python() -> None:
    """Python in an indented block would not be run."""
    indented = [
        block for block in blocks("") if re.search(r"^ *(import \w|from \w+[\w.]* import|with \w+\()", block.text, re.M)
    ]
    assert [str(block) for block in indented] == []


def test_every_public_name_has_an_example_that_runs() -> None:
    text = "\n".join(block.text for block in PYTHON)
    assert [name for name in edge_isp.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_links_lead_to_files_and_headings() -> None:
    broken = []
    for page in PAGES:
        content = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", content):
            path, _, anchor = target.partition("#")
            if "://" in path:
                continue
            file = (page.parent / path).resolve() if path else page
            generated = ("docs/reference/command-line.md", "docs/CHANGELOG.md")
            if str(file.relative_to(ROOT)) in generated:
                continue
            if not file.exists() or (anchor and anchor not in _anchors(file)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def _anchors(page: Path) -> set[str]:
    """Anchors of the headings as GitHub and MkDocs make them, and of what the reference lists."""
    content = page.read_text("utf-8")
    headings = re.findall(r"^#+ (.*)$", content, re.MULTILINE)
    slugs = {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower())) for heading in headings}
    return slugs | set(re.findall(r"^::: (\S+)$", content, re.MULTILINE))
