"""Training stays a small package: what stands directly inside can be read at a glance."""

from __future__ import annotations

from pathlib import Path

import edge_isp.training

_MOST = 15


def test_few_modules_and_packages_are_directly_inside() -> None:
    folder = Path(edge_isp.training.__file__).parent
    found = [p.stem for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
    inside = sorted(name for name in found if name != "__init__")
    assert "trainer" in inside
    assert len(inside) <= _MOST, inside
