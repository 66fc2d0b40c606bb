"""No kernel touches memory outside its buffers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mprotect through ctypes is tried on Linux only")

MODULE = "tests.kernels.guarded"


def test_the_guard_ends_a_process_that_trespasses() -> None:
    done = subprocess.run([sys.executable, "-m", MODULE, "--trespass"], capture_output=True, text=True)
    assert done.returncode == -signal.SIGSEGV, done.stderr


def test_no_kernel_trespasses() -> None:
    # Compiled always: without compilation NumPy checks each index by itself.
    environment = os.environ | {"NUMBA_DISABLE_JIT": "0"}
    done = subprocess.run([sys.executable, "-m", MODULE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
