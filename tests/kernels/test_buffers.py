"""No public kernel touches memory outside its buffers, whatever it is called with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.kernels.kernel_cases import covered_kernels, public_kernels
from tests.kernels.sampling import COMPILED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mprotect through ctypes is tried on Linux only")


def run_guarded(task: str) -> subprocess.CompletedProcess[str]:
    # Compiled always: without compilation NumPy checks each index by itself.
    environment = os.environ | {"NUMBA_DISABLE_JIT": "0"}
    command = [sys.executable, "-m", "tests.kernels.guarded", task]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_guard_ends_a_process_that_trespasses() -> None:
    done = run_guarded("trespass")
    assert done.returncode == -signal.SIGSEGV, done.stderr


@pytest.mark.skipif(not COMPILED, reason="kernels are found by what they compile")
def test_every_public_kernel_is_covered() -> None:
    assert set(public_kernels()) == covered_kernels()


def test_no_kernel_trespasses_in_valid_calls() -> None:
    done = run_guarded("calls")
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-1000:]}"


def test_every_wrong_argument_is_refused_by_its_name() -> None:
    done = run_guarded("arguments")
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-1000:]}"
    assert done.stdout == ""
