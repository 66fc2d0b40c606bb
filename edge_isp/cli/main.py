"""`edge-isp`: the entry point and its commands.

A command's module is cheap to import, since `--help` shows them all; what the command needs is imported when it runs.
Packages that the command line must not know (training) add their commands through the entry-point group
`edge_isp.commands`, under the same rule.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import entry_points
from typing import Any

import typer

from edge_isp import __version__
from edge_isp.cli import signals, streams
from edge_isp.cli.bench import bench
from edge_isp.cli.calibrate import calibrate
from edge_isp.cli.compile import compile_for_npu
from edge_isp.cli.config import config
from edge_isp.cli.configuration import configured
from edge_isp.cli.devices import devices
from edge_isp.cli.dng import dng
from edge_isp.cli.doctor import doctor
from edge_isp.cli.export import export
from edge_isp.cli.install_service import install_service
from edge_isp.cli.models import models
from edge_isp.cli.record import record
from edge_isp.cli.recordings import export_recording, info, repair
from edge_isp.cli.ros import ros
from edge_isp.cli.run import run
from edge_isp.cli.serve import serve
from edge_isp.cli.warmup import show_compilation, warmup
from edge_isp.errors import EdgeIspError

app = typer.Typer(
    help="Bayer frames straight into a quantised network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain text: Rich would take the brackets in "pip install 'edge-isp[bench]'" for markup and leave them out.
    rich_markup_mode=None,
)
app.command()(run)
app.command()(ros)
app.command()(serve)
app.command()(devices)
app.command("compile")(compile_for_npu)
app.command()(warmup)
app.command()(doctor)
app.command()(install_service)
app.command()(record)
app.command()(info)
app.command()(repair)
app.command()(dng)
export.command("recording")(export_recording)
app.add_typer(bench, name="bench")
app.add_typer(calibrate, name="calibrate")
app.add_typer(config, name="config")
app.add_typer(export, name="export")
app.add_typer(models, name="models")
for _entry in entry_points(group="edge_isp.commands"):
    app.add_typer(_entry.load(), name=_entry.name)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    show_compilation()


def command_line() -> Any:
    """The whole command line as Typer's command, with the configuration file and the environment behind its options."""
    return configured(typer.main.get_command(app))


def main() -> None:
    """Runs the command line.

    An error of edge_isp is one line on standard error and exit status 1; a wrong option is status 2. Where the reader
    of standard output has closed it, as `head` does, the command ends quietly with status 0. Signals end it with 130
    or 143, see `signals`.
    """
    signals.install()
    streams.prepare()
    try:
        _main()
    finally:
        signals.uninstall()


def _main() -> None:
    try:
        try:
            command_line()(prog_name="edge-isp")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here and not when Python exits, where an error cannot be caught
    except EdgeIspError as error:
        _fail(str(error))
    except (SystemExit, OSError) as error:
        if _is_closed_pipe(error):
            _discard_output()
            sys.exit(0)
        if isinstance(error, OSError) and _is_of_output(error):
            _discard_output()
            _fail(f"standard output cannot be written: {error.strerror}")
        raise


def _fail(message: str) -> None:
    print(f"edge-isp: error: {message}", file=sys.stderr)
    sys.exit(1)


def _is_closed_pipe(error: BaseException | None) -> bool:
    """Whether an error is a broken pipe, or the exit that Typer and Rich make of one."""
    while error is not None and not isinstance(error, BrokenPipeError):
        error = error.__context__
    return error is not None


def _is_of_output(error: OSError) -> bool:
    """Whether an error came from writing to standard output: of what else fails the library names the file."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


def _discard_output() -> None:
    """Python flushes standard output when it exits: into nothing, then."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)
    os.close(devnull)
