// The matrix products of a warp, mma.sync of the PTX ISA: of int8 with int32 sums, and of 16-bit floats with fp32 sums.
#pragma once

#include <cstdint>

namespace simt {

enum class Mma { m8n8k16, m16n8k32, m16n8k16_bf16, m16n8k8_fp16 };

// A lane's registers, the first of each where the shape has fewer. Sums of floats are their bits.
struct Fragments {
  Mma shape;
  uint32_t a[4], b[2];
  int32_t sums[4];
};

// sums += a * b; all lanes have the same shape. Integers wrap. Of floats, the exact products and the sum before are
// added in binary64, terms upward, and rounded to fp32 once: one of the ways that the PTX ISA leaves to a device.
void multiply(Fragments* const (&lanes)[32]);

}  // namespace simt
