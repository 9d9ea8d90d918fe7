#!/bin/sh
# instruction_sets_test.sh NM OBJDUMP OBJECT…: the objects of kernels/cpu/avx512.cpp, avx2.cpp, neon.cpp and portable.cpp
# share no function that the linker could take from the wrong one, and the portable path neither contains nor calls a
# fused multiply-add.
set -eu
nm=$1 objdump=$2
shift 2
for object in "$@"; do
  case $object in
    *avx512*) own=Avx512 ;;
    *avx2*) own=Avx2 ;;
    *neon*) own=Neon ;;
    *portable*) own=Portable ;;
  esac
  shared=$("$nm" -C "$object" | grep ' W ' | grep -v "$own" || true)
  if [ -n "$shared" ]; then
    echo "$object holds code that other units may share:"; echo "$shared"; exit 1
  fi
  if [ $own = Portable ]; then
    if "$nm" "$object" | grep -E ' U (fma|fmaf|exp|expf|log|logf|tanhf?)$'; then
      echo "$object calls libm"; exit 1
    fi
    if "$objdump" -d "$object" | grep -E '[[:space:]](vfn?m(add|sub)|v?[a-z]+.*%ymm|fn?m(add|sub)|fml[as])'; then
      echo "$object holds instructions beyond the baseline"; exit 1
    fi
  fi
done
[ $# -gt 0 ] || { echo "no objects given"; exit 1; }
