"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "examples/plugins/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n)+(?:\n+(?: {4}.*\n)+)*")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: path in the repository.
        number: from 0, among the blocks of this language in the page.
        language: of the fence; "" for an indented block.
        text: what stands in it.
    """

    page: str
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def blocks(language: str) -> list[Block]:
    """All blocks of a language, page by page."""
    found = []
    for page in PAGES:
        content = page.read_text("utf-8")
        texts = [m[2] for m in _FENCED.finditer(content) if m[1] == language]
        if language == "":
            texts += [m[0] for m in _INDENTED.finditer(_FENCED.sub("", content))]
        name = str(page.relative_to(ROOT))
        found += [Block(name, number, language, text) for number, text in enumerate(texts)]
    return found


def shell_commands(program: str) -> list[tuple[str, list[str]]]:
    """The calls of a program in indented and in `sh` blocks: the page, and the arguments.

    Args:
        program: its name.
    """
    calls = []
    for block in [*blocks(""), *blocks("sh")]:
        for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # a drawing
                continue
            while words and words[0] in ("sudo", ".venv/bin/python", "python"):
                words = words[1:]
            if not words or words[0].rpartition("/")[2] != program or "..." in words:
                continue
            end = next((n for n, word in enumerate(words) if word in (">", "|", "&&", "&")), len(words))
            calls.append((block.page, words[1:end]))
    return calls
