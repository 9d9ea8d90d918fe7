#!/bin/bash
# clang-tidy with the checks of .clang-tidy over what ships: tests/structure/tidy.sh
# It spends its time on the headers of Boost, the standard library and JSON, so a library is read as one file that includes
# its sources (CMake's unity build), and they are read once for each library. That is why names in unnamed namespaces differ
# within a library; where two are the same, this fails with "redefinition of".
# Needs the Debian packages clang and clang-tidy. Arguments go to run-clang-tidy.
set -euo pipefail
cd "$(dirname "$0")/../.."
cmake -S . -B build/tidy -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF -DGRADMINER_WERROR=OFF \
  -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=0 -DGRADMINER_CUDA=OFF \
  -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ >/dev/null
# What kernels/bench and kernels/study make does not ship.
run-clang-tidy -p build/tidy -quiet -j "$(nproc)" "$@" '/(agent|coordinator|pool-protocol)/.*\.c(xx|pp)$' \
  '/kernels/(CMakeFiles|cpu|cuda_driver)/.*\.c(xx|pp)$'
