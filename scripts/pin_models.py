#!/usr/bin/env python3
"""Writes the SHA-256 of the shipped models and their cards into the package. To be run when a model has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

MODELS = Path(__file__).resolve().parents[1] / "edge_isp" / "models"

HEAD = '''"""SHA-256 of the shipped models and their cards, by name of the file. Written by `scripts/pin_models.py`."""

SHA256 = {
'''


def main() -> None:
    """Writes `edge_isp/models/pinned.py`."""
    lines = [
        f'    "{path.name}": "{hashlib.sha256(path.read_bytes()).hexdigest()}",\n'
        for path in sorted((MODELS / "zoo").iterdir())
    ]
    (MODELS / "pinned.py").write_text(f"{HEAD}{''.join(lines)}}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
