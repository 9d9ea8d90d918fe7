#!/bin/sh
# Makes the Python environment of the oracle tests: setup.sh [VENV]  (default: build/oracle-venv).
# Needs Debian's python3-torch, python3-numpy and python3-venv; downloads about 15 MB. Runs again without harm.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../../build/oracle-venv}

if ! /usr/bin/python3 -c 'import torch, numpy, venv, ensurepip' 2>/dev/null; then
  echo "setup.sh: Debian packages are missing; run: apt-get install python3-torch python3-numpy python3-venv" >&2
  exit 1
fi
if [ -f "$venv/complete" ] && cmp -s "$here/requirements.txt" "$venv/complete"; then
  exit 0
fi
/usr/bin/python3 -m venv --system-site-packages "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
"$venv/bin/python" -c 'import torch, transformers; assert transformers.__version__ == "4.40.2"'
cp "$here/requirements.txt" "$venv/complete"
