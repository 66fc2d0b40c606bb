"""`edge-isp`: the entry point and its commands.

Parts of the package that the command line must not know (training) add their commands through the entry-point
group `edge_isp.commands`; their modules must be cheap to import, since `--help` shows them.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points

import typer

from edge_isp import __version__
from edge_isp.cli.bench import bench
from edge_isp.cli.calibrate import calibrate
from edge_isp.cli.devices import devices
from edge_isp.cli.doctor import doctor
from edge_isp.cli.export import export
from edge_isp.cli.run import run
from edge_isp.cli.warmup import show_compilation, warmup
from edge_isp.errors import EdgeIspError

app = typer.Typer(
    help="Bayer frames straight into a quantised network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(devices)
app.command()(warmup)
app.command()(doctor)
app.add_typer(bench, name="bench")
app.add_typer(calibrate, name="calibrate")
app.add_typer(export, name="export")
for _entry in entry_points(group="edge_isp.commands"):
    app.add_typer(_entry.load(), name=_entry.name)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and leave.", is_eager=True, callback=_print_version
    ),
) -> None:
    show_compilation()


def main() -> None:
    """Runs the command line; an error of ours is one line on standard error and exit status 1."""
    try:
        app()
    except EdgeIspError as error:
        print(f"edge-isp: error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read standard output has had enough; Python must not flush it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
