# Sourced by the other scripts: makes .venv where there is none and sets $python to its Python.
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

# Installs this clone into .venv, editable in every script, with an extra or without ("").
# pip takes most of a minute, so it runs only where it has something to do: where pyproject.toml has changed since (a
# `git pull` may bring dependencies and entry points), the extra is not there yet, or Python does not find the package
# in this clone (a `pip install .` in between, a clone that was moved, leftovers).
install() {
  local extra=$1 stamp=.venv/edge-isp-installed project
  project=$(sha256sum <pyproject.toml | cut -d' ' -f1)
  if grep -qs "^$project $extra" $stamp && "$python" -I -c "$here" "$PWD"; then
    return
  fi
  "$python" -m pip install -q -e ".${extra:+[$extra]}"
  # numba once kept compiled kernels in site-packages/edge_isp. pip leaves them when it removes the package, and Python
  # may take such a folder for the package. Where the package is editable, nothing belongs there.
  rm -rf .venv/lib/python3*/site-packages/edge_isp
  grep -s "^$project " $stamp >$stamp.new || true
  echo "$project $extra" >>$stamp.new
  mv $stamp.new $stamp
}
# Exit status 0 where the package that Python finds is the one in this clone.
here='import sys, edge_isp; sys.exit(not (edge_isp.__file__ or "").startswith(sys.argv[1] + "/edge_isp/"))'
