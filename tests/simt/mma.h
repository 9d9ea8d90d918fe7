// The matrix products of a warp, mma.sync of the PTX ISA, of int8 with int32 sums.
#pragma once

#include <cstdint>

namespace simt {

enum class Mma { m8n8k16, m16n8k32 };

// A lane's registers; those of m8n8k16 are a[0], b[0], sums[0] and sums[1].
struct Fragments {
  Mma shape;
  uint32_t a[4], b[2];
  int32_t sums[4];
};

// sums += a * b, wrapping. All have the same shape.
void multiply(Fragments* const (&lanes)[32]);

}  // namespace simt
