"""The documentation site: what it lists, and that it builds without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import edge_isp
from tests.docs.pages import ROOT


def test_the_reference_lists_the_public_names() -> None:
    pages = (ROOT / "docs/reference").rglob("*.md")
    listed = [name for page in pages for name in re.findall(r"^::: edge_isp\.(\w+)$", page.read_text(), re.MULTILINE)]
    assert sorted(listed) == edge_isp.__all__


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every warning as an error."""
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package, reason="the extra 'docs' is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_public_name_and_every_command_has_its_place(site: Path) -> None:
    reference = "".join(page.read_text() for page in (site / "reference/python").glob("*.html"))
    assert [name for name in edge_isp.__all__ if f'id="edge_isp.{name}"' not in reference] == []
    commands = (site / "reference/command-line.html").read_text()
    for command in ("run", "serve", "record", "bench pipeline", "calibrate noise", "train isp", "evaluate detector"):
        assert f'id="edge-isp-{command.replace(" ", "-")}"' in commands
    assert "--auto-exposure" in commands


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    pages = {page: page.read_text() for page in site.rglob("*.html") if page.name != "404.html"}
    ids = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    broken = set()
    for page, text in pages.items():
        for target in re.findall(r'(?:href|src)="([^"]+)"', text):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            file = Path(os.path.normpath(page.parent / path)) if path else page
            file = file / "index.html" if file.is_dir() else file
            if not file.exists() or (anchor and file in ids and anchor not in ids[file]):
                broken.add(f"{page.relative_to(site)}: {target}")
    assert broken == set()


def test_the_site_loads_nothing_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert [url for url in loaded if "canonical" not in url] == [], page
