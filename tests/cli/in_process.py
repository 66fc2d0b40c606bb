"""The command line in this process: for tests of what it says, which need no process of their own."""

from __future__ import annotations

import io
import signal
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
    # The command line gives signals back to the system at its end, which would end all tests with the next Ctrl-C.
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    with redirect_stdout(output), redirect_stderr(errors), mock.patch.object(sys, "argv", ["edge-isp", *given]):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            sys.unraisablehook = hook
    return subprocess.CompletedProcess(given, status, output.getvalue(), errors.getvalue())
