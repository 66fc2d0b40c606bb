"""No kernel touches memory outside its buffers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mprotect through ctypes is tried on Linux only")

SCRIPT = Path(__file__).with_name("guarded.py")


def test_the_guard_ends_a_process_that_trespasses() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--trespass"], capture_output=True, text=True)
    assert done.returncode == -signal.SIGSEGV, done.stderr


def test_no_kernel_trespasses() -> None:
    # Compiled always: without compilation NumPy checks each index by itself.
    environment = os.environ | {"NUMBA_DISABLE_JIT": "0"}
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
