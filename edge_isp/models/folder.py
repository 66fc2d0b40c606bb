"""The user's folder of models: what was fetched or compiled on this machine."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "EDGE_ISP_MODELS"


def model_folder() -> Path:
    """The folder: `$EDGE_ISP_MODELS`, else edge-isp/models in the user's folder of data. It need not exist."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "edge-isp", "models")


def local_models() -> dict[str, Path]:
    """Cards in the folder, by name."""
    return {path.stem: path for path in sorted(model_folder().glob("*.toml")) if not path.name.startswith(".")}
