"""Real recordings that tests develop: the one that ships, and those of the data folder with their sidecars."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

DEMO = Path(str(resources.files("edge_isp"))) / "demo" / "spices.raw"

NIKON_FILE = "DSC_1339_768x512_rggb.raw"
OPENISP_FILE = "openisp_test_1920x1080_rggb10_le16.raw"

NIKON = """[format]
width = 768
height = 512
cfa = "RGGB"
bit_depth = 14
packing = "u16"
[sensor]
black_level = [600, 600, 600, 600]
white_level = 15520
[frame]
colour_gains = [1.949, 1.344]
"""
OPENISP = """[format]
width = 1920
height = 1080
cfa = "RGGB"
bit_depth = 10
packing = "u16"
[sensor]
black_level = [0, 0, 0, 0]
white_level = 1023
"""

# By name, the sidecar of each frame under `raw/` of the data folder; None where the file needs none.
REAL_FRAMES: dict[str, str | None] = {NIKON_FILE: NIKON, OPENISP_FILE: OPENISP, "colorchart.dng": None}


def copy_real_frame(data: Path, name: str, folder: Path) -> Path:
    """Copies a frame of the data folder beside its sidecar; returns the copy."""
    path = folder / name
    path.write_bytes((data / "raw" / name).read_bytes())
    sidecar = REAL_FRAMES[name]
    if sidecar is not None:
        path.with_suffix(".toml").write_text(sidecar)
    return path
