"""Runs every kernel on buffers whose neighbouring pages cannot be touched; a kernel that strays ends the process.

    python -m tests.kernels.guarded [--trespass]

With --trespass it touches such a page itself, to show that the guard works.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.decode import decode_rgb, rgb_to_i420
from edge_isp.kernels.defects import defect_list, replace_defects, replace_hot_pixels
from edge_isp.kernels.demosaic import METHODS, TONE_ENTRIES, demosaic, develop
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import RawLayout, row_bytes
from edge_isp.kernels.resample import encode_resampled
from edge_isp.kernels.shaded import encode_shaded
from edge_isp.kernels.statistics import statistics
from edge_isp.kernels.tables import Factors, node_places
from edge_isp.kernels.unpack import unpack
from tests.kernels.sampling import LAYOUTS

PROT_NONE = 0
# What `replace_defects` takes.
MENDED = {("u8", 8), ("csi2p", 10), ("csi2p", 12), *(("u16", bits) for bits in range(8, 17)), ("u16-left", 12)}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_kept: list[Any] = []


def guarded(shape: tuple[int, ...], dtype: Any, at_end: bool) -> NDArray[Any]:
    """An array that touches the guard page after it, or the one before it; filled with random bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pages = -(-size // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        if _libc.mprotect(begin + page * mmap.PAGESIZE, mmap.PAGESIZE, PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    _kept.append(memory)
    offset = mmap.PAGESIZE + (pages * mmap.PAGESIZE - size if at_end else 0)
    array = np.frombuffer(memory, np.uint8, size, offset)
    array[:] = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    typed: NDArray[Any] = array.view(dtype).reshape(shape)
    return typed


def main() -> None:
    if "--trespass" in sys.argv:
        array = guarded((5,), np.uint8, True)
        ctypes.string_at(array.ctypes.data, 6)
        return
    for at_end in (False, True):
        for packing, bit_depth in LAYOUTS:
            for width, height in ((4, 4), (8, 6), (26, 4), (66, 10), (130, 4)):
                run_on_frames(packing, bit_depth, width, height, at_end)
                if (packing, bit_depth) in MENDED:
                    run_on_defects(packing, bit_depth, width, height, at_end)
        for width in (1, 2, 7, 33, 65):
            run_on_pictures(width, at_end)
        _kept.clear()


def run_on_frames(packing: str, bit_depth: int, width: int, height: int, at_end: bool) -> None:
    # The window ends with the buffer, and at its end begins with it.
    left, top = (6, 2) if at_end else (0, 0)
    data = guarded((top + height, row_bytes(packing, bit_depth, left + width)), np.uint8, at_end)
    whole = RawLayout(width, height, packing, bit_depth, "RGGB", left, top)
    unpack(data, whole, out=guarded((height, width), np.uint16, at_end))
    odd = replace(whole, width=width - 1, height=height - 1)
    unpack(data, odd, out=guarded((height - 1, width - 1), np.uint16, at_end))
    entries = 2**bit_depth
    for layout in (replace(whole, cfa=cfa) for cfa in ("RGGB", "GBRG", "BGGR")):
        for flip in (False, True):
            flips: dict[str, Any] = {"flip_vertical": flip, "flip_horizontal": flip}
            for dtype in (np.int8, np.uint8, np.int16, np.float32):
                tables = guarded((4, entries), dtype, at_end)
                if dtype == np.float32:
                    tables[:] = 0
                out = guarded((height // 2, width // 2, 4), dtype, at_end)
                encode(data, out, layout, tables=tables, **flips)
                out = guarded((max(1, height // 3), max(1, width // 5), 4), dtype, at_end)
                encode_resampled(data, out, layout, tables=tables, **flips)
            out = guarded((height // 2, width // 2, 4), np.int8, at_end)
            places = [len(node_places(side // 2)) for side in (height, width)]
            factors = Factors(guarded((*places, 4), np.uint16, at_end), 14)
            tables = guarded((4, entries), np.uint16, at_end)  # corrupt: up to 65535
            constants = np.full(4, 65535, np.uint16)
            encode_shaded(data, out, layout, tables=tables, factors=factors, zero_point=-128, **flips)
            out = guarded((height // 2, width // 2, 8), np.int8, at_end)
            encode_shaded(data, out, layout, tables=tables, factors=factors, zero_point=0, constants=constants, **flips)
        statistics(data, layout, black_level=(0, 0, 0, 0), white_level=entries - 1, step=1)
        for method in METHODS:
            demosaic(data, guarded((height, width, 3), np.uint16, at_end), layout, method=method)
            develop(
                data,
                guarded((height, width, 3), np.uint8, at_end),
                layout,
                method=method,
                tables=guarded((4, entries), np.uint16, at_end),  # corrupt: up to 65535
                matrix=np.array([[9.0, -1, 0], [0, 1, 0], [1e30, 0, -1e30]]),
                tone=guarded((TONE_ENTRIES,), np.uint8, at_end),
            )
    _kept.clear()


def run_on_defects(packing: str, bit_depth: int, width: int, height: int, at_end: bool) -> None:
    data = guarded((height, row_bytes(packing, bit_depth, width)), np.uint8, at_end)
    corners = [(x, y) for x in (0, 1, width - 2, width - 1) for y in (0, 1, height - 2, height - 1)]
    replace_defects(data, defect_list(corners), RawLayout(width, height, packing, bit_depth, "RGGB"))
    codes = guarded((height, width), np.uint16, at_end)
    replace_hot_pixels(codes, guarded((height, width), np.uint16, at_end), threshold=1)


def run_on_pictures(width: int, at_end: bool) -> None:
    for table in (np.arange(256, dtype=np.uint8), guarded((256,), np.uint8, at_end)):
        for bgr in (False, True):
            for flip in (False, True):
                out = guarded((6, 2 * width, 3), np.uint8, at_end)
                planes = guarded((3, width, 12), np.int8, at_end)
                decode_rgb(planes, out, table, bgr=bgr, flip_vertical=flip, flip_horizontal=flip)
    rgb_to_i420(guarded((4, 2 * width, 3), np.uint8, at_end), guarded((6, 2 * width), np.uint8, at_end))


if __name__ == "__main__":
    main()
