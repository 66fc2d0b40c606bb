"""edge_isp: Bayer frames from a camera straight into a quantised network, with no ISP in between."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.2.0"

# The module of each public name, as __init__.pyi has it. A name is imported when it is first used (PEP 562), so that
# `import edge_isp` loads neither numba nor a runtime.
_MODULES: dict[str, str] = {
    name: module
    for module, name in re.findall(
        r"^from (\S+) import (\w+) as \2$", Path(__file__).with_name("__init__.pyi").read_text("utf-8"), re.MULTILINE
    )
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'edge_isp' has no attribute '{name}'")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
