#!/bin/sh
# Shared variables of kernels lie where the executor fills them before each block. GCC forgets the section of one inside a
# template or an inline function, which would keep what the block before has left.
# usage: shared_section_test.sh NM OBJECT...
set -eu
nm=$1
shift
[ $# -gt 0 ]
seen=0
for object in "$@"; do
  # Variables inside functions (_ZZ) with their sections.
  variables=$("$nm" --format=sysv "$object" | grep OBJECT | grep '^_ZZ' || true)
  [ -z "$variables" ] || seen=1
  if printf '%s\n' "$variables" | grep _ZZ | grep -v 'simt_shared[a-z0-9_]* *$'; then
    echo "$object: these variables are not in a section simt_shared*: declare them in the entry point itself" >&2
    exit 1
  fi
done
[ $seen -eq 1 ]
