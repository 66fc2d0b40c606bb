"""The suite without compilation, and the cache that `edge-isp warmup` fills."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.sampling import COMPILED

FOLDER = Path(__file__).parent


@pytest.mark.skipif(not COMPILED, reason="this is that run")
def test_the_suite_passes_without_compilation() -> None:
    modules = [FOLDER / f"test_{name}.py" for name in ("layouts", "encode", "pictures", "detect")]
    done = subprocess.run(
        # The buffers' tests compile in any case.
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *modules],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        cwd=FOLDER.parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_after_a_warm_up_nothing_is_compiled(tmp_path: Path) -> None:
    # Only what a pipeline needs: compiling everything takes the better part of a minute.
    program = (
        "from edge_isp.kernels import warmup; warmup.compile_pipeline_kernels(); "
        "warmup.compile_pipeline_kernels('detector'); print('counts', *warmup.counts())"
    )
    counts = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        found = re.search(r"counts (\d+) (\d+)", done.stdout)
        assert found, done.stdout
        counts.append((int(found[1]), int(found[2])))
    assert counts[0][0] > 0
    assert counts[1][0] == 0
    assert counts[1][1] > 0
    assert any(tmp_path.rglob("*.nbi"))
