"""MkDocs' hooks: what the site shows beside `docs/`, which is the command line, the changelog and the examples.

Pages keep the links that work in the repository, such as `../examples/doorbell.py`; the hooks turn them into links of
the site.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
COMMAND_LINE = "reference/command-line.md"
# Files of the repository that are pages of the site as they stand.
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/plugins/README.md")
# And those that are shown as text.
TEXTS = ("LICENSE", "NOTICE", "examples/*.py", "examples/*.service", "examples/setups", "examples/plugins/*/*.py")
_LANGUAGES = {".py": "python", ".toml": "toml", ".service": "ini"}
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")
_HEAD = """# Command line

What each command prints with `--help`. Every option can also be set in a file or in the environment, see
[Configuration](../configuration.md). A failure is one line on standard error and exit status 1; a wrong option is 2.
"""
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages of each folder that the navigation names, such as `decisions/`."""
    made = {path.removesuffix(".md"): path for path in (*PAGES, *map(site_path, texts()))}
    for section in config.nav or []:
        for title, entries in section.items():
            if isinstance(entries, list):
                section[title] = [_expanded(entry, made) for entry in entries]
    return config


def _expanded(entry: Any, made: dict[str, str]) -> Any:
    """An entry of the navigation, with the pages of its folder where it names one."""
    if not isinstance(entry, dict):
        return entry
    ((title, folder),) = entry.items()
    if not isinstance(folder, str) or not folder.endswith("/"):
        return entry
    kept = sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs" / folder).glob("*.md"))
    kept.sort(key=lambda path: not path.endswith("README.md"))
    shown = [{posixpath.relpath(name, folder): path} for name, path in sorted(made.items()) if path.startswith(folder)]
    return {title: [*kept, *shown]}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in `docs/`."""
    from mkdocs.structure.files import File

    made = {COMMAND_LINE: command_line()}
    made |= {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
    made |= {site_path(name): text_page(name) for name in texts()}
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links to files of the repository into links of the site."""
    path = page.file.src_uri
    origin = path if page.file.generated_by else f"docs/{path}"

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), found[2]))
        if target.startswith("docs/") and origin.startswith("docs/"):
            return found[0]  # MkDocs checks and turns it
        return (
            f"{found[1]}{os.path.relpath(site_path(target), posixpath.dirname(path) or '.')}{found[3] or ''}{found[4]}"
        )

    parts, start = [], 0
    for fence in _FENCE.finditer(markdown):  # what looks like a link in code is none
        parts += [_LINK.sub(link, markdown[start : fence.start()]), fence[0]]
        start = fence.end()
    return "".join([*parts, _LINK.sub(link, markdown[start:])])


def texts() -> Iterator[str]:
    """Paths in the repository of what is shown as text."""
    for pattern in TEXTS:
        for path in sorted(ROOT.glob(pattern)):
            yield str(path.relative_to(ROOT))


def site_path(name: str) -> str:
    """The path in the site of a file or folder of the repository."""
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return name if name.endswith(".md") else f"{name}.md"


def text_page(name: str) -> str:
    """A page that shows a text file, or the text files of a folder."""
    path = ROOT / name
    if path.is_dir():
        shown = "\n".join(f"## {file.name}\n\n{_fenced(file)}" for file in sorted(path.iterdir()))
        return f"# {name}\n\n{shown}"
    return path.read_text("utf-8") if path.suffix == ".md" else f"# {name}\n\n{_fenced(path)}"


def _fenced(path: Path) -> str:
    return f"```{_LANGUAGES.get(path.suffix, 'text')}\n{path.read_text('utf-8').rstrip()}\n```\n"


def command_line() -> str:
    """The reference of the command line: what every command prints with `--help`."""
    from typer.testing import CliRunner

    from edge_isp.cli.configuration import leaves
    from edge_isp.cli.main import app, command_line

    parts = [_HEAD]
    for path, _ in leaves(command_line()):
        shown = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"}).invoke(app, [*path, "--help"], prog_name="edge-isp")
        if shown.exit_code:
            raise RuntimeError(f"edge-isp {' '.join(path)} --help: {shown.output}")
        parts.append(f"## edge-isp {' '.join(path)}\n\n```text\n{shown.output.strip()}\n```\n")
    return "\n".join(parts)


def on_startup(command: str, dirty: bool) -> None:
    """The package of this clone is what the pages describe."""
    sys.path.insert(0, str(ROOT))
