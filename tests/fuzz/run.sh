#!/bin/bash
# Builds the fuzz targets with clang's sanitizers and runs them, one on each core:
#   tests/fuzz/run.sh SECONDS [NAME...]   each for so long
#   tests/fuzz/run.sh --long [NAME...]    each for ten million runs or two hours, whichever ends first
# Findings lie in build/fuzz/findings. Needs the Debian packages clang and libclang-rt-14-dev.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:?usage: tests/fuzz/run.sh SECONDS|--long [NAME...]}
shift
runs=-1  # without end
if [ "$seconds" = --long ]; then seconds=7200 runs=10000000; fi

cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g1" \
  -DGRADMINER_FUZZ=ON -DGRADMINER_KERNEL_OPTIMISATION=-O1 \
  -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=0 -DGRADMINER_WERROR=OFF -DGRADMINER_CUDA=OFF \
  -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
  -DCMAKE_CXX_FLAGS="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined" >/dev/null
ninja -C build/fuzz fuzzers

names=("$@")
if [ ${#names[@]} = 0 ]; then
  for program in build/fuzz/bin/fuzz_*; do names+=("${program##*/fuzz_}"); done
fi
mkdir -p build/fuzz/findings
# Where memory was allocated costs a quarter of the runs; the finding's file, run again without this, says it.
export ASAN_OPTIONS=malloc_context_size=0
# What a fuzzer said comes in one piece, because they run side by side.
fuzz() {
  local name=$1 said failed=0 seeds=tests/fuzz/corpus/$1
  case $name in json_messages|documents|blob_header) seeds=tests/pool-protocol/golden ;; esac
  mkdir -p "build/fuzz/corpus/$name"
  said=$("build/fuzz/bin/fuzz_$name" -max_total_time="$seconds" -runs="$runs" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
    -verbosity=0 -print_funcs=0 -print_final_stats=1 -artifact_prefix=build/fuzz/findings/ "build/fuzz/corpus/$name" "$seeds" 2>&1) || failed=1
  printf '== %s, at most %s s\n%s\n' "$name" "$seconds" \
    "$(sed '/Recommended dictionary/,/End of recommended dictionary/d' <<<"$said")"
  return $failed
}
export -f fuzz
export seconds runs
printf '%s\n' "${names[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz "$1"' fuzz {}
