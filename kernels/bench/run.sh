#!/usr/bin/env bash
# run.sh BUILD_FOLDER [options of compare_pytorch.py]: training steps against the current PyTorch release, which is
# fetched into a virtual environment in the build folder. Where pip is set up with an index of CPU-only wheels, it takes
# one of those; the other wheels compute the same on a CPU.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${1:?usage: run.sh BUILD_FOLDER [options]}
shift
cmake --build "$build" --target step_bench
venv=$build/torch-venv
[ -d "$venv" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import torch' 2>/dev/null || "$venv/bin/pip" install --quiet torch numpy
exec "$venv/bin/python" "$here/compare_pytorch.py" "$build/bin/step_bench" "$@"
