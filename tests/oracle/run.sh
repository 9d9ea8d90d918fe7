#!/bin/sh
# Runs one oracle test: run.sh VENV TEST.py ARGUMENT…; a missing environment is a failure, never a skip.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=$1
shift
if [ ! -f "$venv/complete" ]; then
  echo "The oracle's Python environment is missing; make it with: $here/setup.sh $venv" >&2
  exit 1
fi
test=$1
shift
exec "$venv/bin/python" -B "$here/$test" "$@"
