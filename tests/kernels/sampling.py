"""What the kernels' tests draw their frames from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_isp.kernels.layout import CELL_PLANES, RawLayout, row_bytes

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")

# Compilation falls into the first example, so there is no deadline. Without compilation every pixel is slow.
examples = settings(deadline=None, derandomize=True, max_examples=150 if COMPILED else 12)

LAYOUTS = [
    ("u8", 8),
    *(("csi2p", bits) for bits in (8, 10, 12, 14)),
    *(("u16", bits) for bits in range(8, 17)),
    *(("u16-left", bits) for bits in range(8, 17)),
    ("pisp-comp1", 16),
]

dtypes = st.sampled_from([np.int8, np.uint8, np.int16, np.float32])


@dataclass(frozen=True)
class Sample:
    """A frame of random bytes, and a window of it."""

    data: NDArray[np.uint8]
    layout: RawLayout


@st.composite
def samples(draw: st.DrawFn, *, even: bool = True, smallest: int = 1) -> Sample:
    """Frames of every packing and CFA order, with padding, an odd start in memory, and a crop at even offsets."""
    packing, bit_depth = draw(st.sampled_from(LAYOUTS))
    unit = 2 if even else 1
    width = unit * draw(st.integers(smallest, 50 if COMPILED else 12))
    height = unit * draw(st.integers(smallest, 12 if COMPILED else 5))
    left, top = 2 * draw(st.integers(0, 9)), 2 * draw(st.integers(0, 3))
    stride = row_bytes(packing, bit_depth, left + width) + draw(st.integers(0, 40))
    rows = top + height + draw(st.integers(0, 2))
    offset = draw(st.integers(0, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    data = rng.integers(0, 256, offset + rows * stride, dtype=np.uint8)[offset:].reshape(rows, stride)
    cfa = draw(st.sampled_from(list(CELL_PLANES)))
    return Sample(data, RawLayout(width, height, packing, bit_depth, cfa, left, top))


def random_tables(seed: int, bit_depth: int, dtype: Any, *leading: int) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(-128, 128, (*leading, 4, 2**bit_depth)).astype(dtype)
