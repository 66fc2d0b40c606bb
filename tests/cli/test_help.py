"""Help texts: complete, in full sentences, with their brackets, in the words of the field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from edge_isp.cli.main import app

# Phrases that design and users have found hard to read.
ODD_PHRASES = re.compile(
    r"\b(so many|whoever|told|ways?|hand-?over|peers?|rungs?|ladder|taker|giver|does no harm|makes no sense|held within"
    r"|one a core|today)\b",
    re.IGNORECASE,
)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group, with its path."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


COMMANDS = list(commands(typer.main.get_command(app)))
every_command = pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=[" ".join(path) or "edge-isp" for path, _ in COMMANDS]
)


def test_every_command_is_registered_once() -> None:
    groups = [group.name for group in app.registered_groups]
    assert len(groups) == len(set(groups)), groups


@every_command
def test_help_is_full_sentences(path: tuple[str, ...], command: Any) -> None:
    texts = [command.help or ""]
    texts += [p.help or "" for p in command.params if p.param_type_name == "option" and p.name != "help"]
    for text in texts:
        first = text.strip()
        assert first, f"{path} has an option without help"
        assert first[0].isupper() or first[0] in "'`-", first
        assert first.rstrip(")").endswith("."), first
        assert not ODD_PHRASES.search(first), first


@every_command
def test_help_shows_what_the_source_says(path: tuple[str, ...], command: Any) -> None:
    """Square brackets are not taken for markup."""
    shown = CliRunner().invoke(app, [*path, "--help"]).output
    for text in [command.help, *(p.help for p in command.params if p.param_type_name == "option" and not p.hidden)]:
        assert re.sub(r"\s+", "", text or "") in re.sub(r"\s+", "", shown), text


def test_json_is_a_flag_everywhere() -> None:
    found = [p for _, command in COMMANDS for p in command.params if "--json" in p.opts]
    assert found
    assert all(option.is_flag for option in found)


def test_every_size_has_the_one_parser() -> None:
    found = [path for path, command in COMMANDS for p in command.params if "--size" in p.opts]
    assert len(found) > 1
    for path in found:
        for text in ("1280", "1280x", "x720", "1281x720", "0x2", "axb", "-2x2", "1280x720x3", "１２x12"):
            done = CliRunner().invoke(app, [*path, f"--size={text}"])
            assert done.exit_code == 2
            assert "expected WIDTHxHEIGHT in pixels, both even" in " ".join(done.output.split()), (path, done.output)
