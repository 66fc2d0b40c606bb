"""What tests share: the data folder, PyTorch, a recording made in a moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from edge_isp.frame import Cfa, Packing, RawFormat
from edge_isp.kernels.pack import pack

# The models of the person who runs the tests are none of the tests' business.
os.environ["EDGE_ISP_MODELS"] = "/nonexistent/models"

# Compilation of a kernel falls into the first example, so there is no deadline.
settings.register_profile("edge_isp", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("edge_isp")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real frames, photographs and tuning files."""
    folder = os.environ.get("EDGE_ISP_DATA")
    if not folder:
        pytest.skip("EDGE_ISP_DATA is not set: it names the folder of real frames and photographs")
    return Path(folder)


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recording of random codes and its sidecar; returns the path of the `.raw`."""

    def write(
        name: str = "scene",
        *,
        width: int = 64,
        height: int = 48,
        cfa: str = "RGGB",
        bit_depth: int = 10,
        packing: str = "csi2p",
        stride: int | None = None,
        frames: int = 2,
        sensor: str = 'name = "imx219"',
        frame: str = "[frame]\ncolour_gains = [1.75, 1.43]\ncolour_temperature_k = 5700\n",
    ) -> Path:
        layout = RawFormat(width, height, Cfa(cfa), bit_depth, Packing(packing), stride or 0)
        rng = np.random.default_rng(0)
        path = tmp_path / f"{name}.raw"
        codes = [rng.integers(0, 2**bit_depth, (height, width)).astype(np.uint16) for _ in range(frames)]
        path.write_bytes(
            b"".join(pack(c, packing=packing, bit_depth=bit_depth, stride=layout.stride).tobytes() for c in codes)
        )
        stride_line = f"stride = {stride}\n" if stride else ""
        path.with_suffix(".toml").write_text(
            f'[format]\nwidth = {width}\nheight = {height}\ncfa = "{cfa}"\nbit_depth = {bit_depth}\n'
            f'packing = "{packing}"\n{stride_line}[sensor]\n{sensor}\n{frame}'
        )
        return path

    return write
