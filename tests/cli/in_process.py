"""The command line in this process: for tests of what it says, which need no process of their own."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from edge_isp.cli.main import main


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `edge-isp`, as `tests.cli.test_command_line.run` does in a process.

    Args:
        arguments: of the command line.
    """
    given, output, errors, status = [str(argument) for argument in arguments], io.StringIO(), io.StringIO(), 0
    with redirect_stdout(output), redirect_stderr(errors), mock.patch.object(sys, "argv", ["edge-isp", *given]):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess(given, status, output.getvalue(), errors.getvalue())
