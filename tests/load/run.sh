#!/usr/bin/env bash
# run.sh BUILD_FOLDER [options of measure.py]: what one core of gradpool serves, the load coming from another core. Wants a
# machine that does nothing else: about 8 minutes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "${1:?usage: run.sh BUILD_FOLDER [options]}" && pwd)
shift
cmake --build "$build" --target gradpool load_generator
GRADPOOL=$build/bin/gradpool LOAD_GENERATOR=$build/bin/load_generator exec python3 "$here/measure.py" "$@"
