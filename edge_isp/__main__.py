"""`python -m edge_isp`: the command line, where `edge-isp` is not on PATH."""

from __future__ import annotations

from edge_isp.cli.main import main

if __name__ == "__main__":
    main()
