"""`edge-isp warmup`: compiles the kernels, so that no later start has to."""

from __future__ import annotations

import os
import time


def warmup() -> None:
    """Compile all kernels into numba's cache: once, at install time. NUMBA_CACHE_DIR says where it is."""
    from edge_isp.kernels.warmup import compile_kernels

    begun = time.perf_counter()
    compiled, loaded = compile_kernels()
    where = os.environ.get("NUMBA_CACHE_DIR", "beside the modules")
    print(
        f"{compiled} functions compiled, {loaded} from the cache, {time.perf_counter() - begun:.1f} s; cache: {where}"
    )
