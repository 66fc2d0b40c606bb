"""Commands that need no kernel work where numba does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.modules["numba"] = None  # importing it is an error now
from edge_isp.cli.main import main
sys.argv[1:] = {arguments!r}
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["run", "--help"], ["warmup", "--help"], ["doctor", "--help"], ["doctor"]],
    ids=" ".join,
)
def test_a_command_that_needs_no_kernel_does_not_load_numba(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(arguments=arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
