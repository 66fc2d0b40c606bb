"""The command line, as `edge-isp` and as `python -m edge_isp`."""

from __future__ import annotations

from edge_isp.cli import signals


def main() -> None:
    """Runs the command line; from the first import on, a signal ends it without a traceback."""
    signals.install()
    from edge_isp.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
