// Int8 digits on their way to shared memory, in units: four terms of a line in 32 bits, the first the lowest.
#pragma once

#include "cuda/tile.cuh"

namespace kernels::cuda {

// Term t of line l stands at first[l * stride + t], or, where lines are the neighbours, at first[t * stride + l].
struct Digits {
  const int8_t* first;
  uint64_t stride;
  uint32_t lines, terms;
  bool aligned;  // 16 terms, or 4 lines, may be read at once
};

using Units = Four<uint32_t>;

__device__ inline uint32_t byte_of(uint32_t word, uint32_t i) { return word >> 8 * i & 0xff; }

// The first `inside` of four digits, then zeros.
__device__ inline uint32_t load_word(const int8_t* from, uint32_t inside, bool aligned) {
  if (aligned && inside >= 4) return *reinterpret_cast<const uint32_t*>(from);
  uint32_t word = 0;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    if (i < inside) word |= uint32_t{static_cast<uint8_t>(from[i])} << 8 * i;
  }
  return word;
}

// From a line and a term on: four units of the line where terms are the neighbours (along_terms), else four terms, each
// of four lines, which transposed() makes units of. What is outside is 0.
template <bool along_terms>
__device__ Units load_units(const Digits& from, uint32_t line, uint32_t term) {
  Units units;
  if (along_terms) {
    const uint32_t inside = left(line, from.lines) ? left(term, from.terms) : 0;
    const int8_t* p = from.first + line * from.stride + term;
    if (from.aligned && inside >= 16) return *reinterpret_cast<const Units*>(p);
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) units.x[i] = load_word(p + 4 * i, left(4 * i, inside), false);
  } else {
    const uint32_t inside = left(line, from.lines);
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      units.x[i] =
          load_word(from.first + (term + i) * from.stride + line, term + i < from.terms ? inside : 0, from.aligned);
    }
  }
  return units;
}

__device__ inline Units transposed(const Units& x) {
  Units y;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i)
    y.x[i] = byte_of(x.x[0], i) | byte_of(x.x[1], i) << 8 | byte_of(x.x[2], i) << 16 | byte_of(x.x[3], i) << 24;
  return y;
}

// A place in a slice.
struct Place {
  uint32_t line, unit;
};

}  // namespace kernels::cuda
