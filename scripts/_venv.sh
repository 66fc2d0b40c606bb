# Sourced by the other scripts: makes .venv where there is none, and sets $python to its Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1
python=$PWD/.venv/bin/python
if [ ! -x "$python" ]; then
  system=${PYTHON:-python3}
  if ! "$system" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then
    echo "edge_isp needs Python 3.11 to 3.13, found: $("$system" --version 2>&1); set PYTHON to another" >&2
    exit 1
  fi
  if ! "$system" -m venv .venv; then
    rm -rf .venv
    echo "could not make .venv; on Debian and Raspberry Pi OS: sudo apt install python3-venv" >&2
    exit 1
  fi
fi
