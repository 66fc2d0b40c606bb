"""The docstrings of the public names say all that the reference shows: every parameter and attribute has its entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import edge_isp
from tests.docs.pages import ROOT

griffe = pytest.importorskip("griffe", reason="the extra 'docs' is not installed")

# Set by the library itself.
INTERNAL = {"_released"}


@pytest.fixture(scope="module")
def package() -> Any:
    return griffe.load("edge_isp", search_paths=[str(ROOT)], docstring_parser="google")


@pytest.mark.parametrize("name", edge_isp.__all__)
def test_every_parameter_has_an_entry(package: Any, name: str) -> None:
    public = package[name]
    assert list(_without_entry(name, public.final_target if public.is_alias else public)) == []


def _without_entry(name: str, described: Any) -> Iterator[str]:
    if described.docstring is None:
        yield f"{name}: no docstring"
    elif not described.docstring.value.startswith("See `"):  # of a protocol, which says it
        entries = _entries(described)
        yield from (f"{name}: {one}" for one in _parameters(described) if one.lstrip("*") not in entries | INTERNAL)
    if not described.is_function:
        for member, method in described.members.items():
            if method.is_function and not member.startswith("_") and method.docstring:
                yield from _without_entry(f"{name}.{member}", method)


def _parameters(described: Any) -> list[str]:
    """Names of a function's parameters, of a class's or of a dataclass's fields."""
    if "dataclass" in described.labels:
        public = {name: each for name, each in described.members.items() if not name.startswith("_")}
        return [name for name, each in public.items() if "instance-attribute" in each.labels]
    initialise = described if described.is_function else described.members.get("__init__")
    if initialise is None:
        return []
    return [parameter.name for parameter in initialise.parameters if parameter.name not in ("self", "cls")]


def _entries(described: Any) -> set[str]:
    sections = (section for section in described.docstring.parsed if section.kind.value in ("parameters", "attributes"))
    return {entry.name.lstrip("*") for section in sections for entry in section.value}
