#!/usr/bin/env bash
# The whole of what faults_kill and faults_power do in short, with the programs of build/release: five kills and a power
# cut at every step that has a name, 500 kills at random moments of one job, 100 power cuts, and every sync taken out
# once. Forty minutes on two cores. What a power cut leaves is decided by layer.cpp and not by the disk, so TMPDIR may be
# on a file system in memory.
# usage: tests/faults/run.sh [SEED]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seed=${1:-1}
/usr/bin/python3 "$here/kill_test.py" --seed "$seed" --each 5 --cuts 1 --random 0 --power 100 --rounds 12
/usr/bin/python3 "$here/kill_test.py" --seed "$seed" --some 2 --random 500 --one-job --power 0 --rounds 1000
/usr/bin/python3 "$here/power_test.py" --seed "$seed" --mutations
