// Operands of int8 digits or of halves on their way to shared memory, in units: 32 bits of neighbouring terms of a
// line, four digits or two halves, the first the lowest.
#pragma once

#include "cuda/tile.cuh"

namespace kernels::cuda {

// Term t of line l stands at first[l * stride + t], or, where lines are the neighbours, at first[t * stride + l].
template <class T>
struct NarrowOperand {
  const T* first;
  uint64_t stride;
  uint32_t lines, terms;
  bool aligned;  // 16 bytes of terms, or 4 lines, may be read at once
};

using Units = Four<uint32_t>;

// A place in a slice.
struct Place {
  uint32_t line, unit;
};

__device__ inline uint32_t byte_of(uint32_t word, uint32_t i) { return word >> 8 * i & 0xff; }

// The bytes that the selector's hexadecimal digits name, the last digit the lowest byte: 0 to 3 of x, 4 to 7 of y.
template <uint32_t selector>
__device__ uint32_t bytes_of(uint32_t x, uint32_t y) {
#if defined(__CUDA_ARCH__)
  uint32_t word;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(word) : "r"(x), "r"(y), "n"(selector));
  return word;
#else
  const uint64_t both = uint64_t{y} << 32 | x;
  uint32_t word = 0;
  for (uint32_t i = 0; i < 4; ++i) word |= static_cast<uint32_t>(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return word;
#endif
}

// From four lines of each of a unit's terms, one term behind the other, to a unit of each line.
template <class T>
__device__ Units transposed(const Units& x) {
  if (sizeof(T) == 2) {
    return {{bytes_of<0x5410>(x.x[0], x.x[2]), bytes_of<0x7632>(x.x[0], x.x[2]), bytes_of<0x5410>(x.x[1], x.x[3]),
             bytes_of<0x7632>(x.x[1], x.x[3])}};
  }
  const uint32_t low01 = bytes_of<0x5140>(x.x[0], x.x[1]), high01 = bytes_of<0x7362>(x.x[0], x.x[1]);
  const uint32_t low23 = bytes_of<0x5140>(x.x[2], x.x[3]), high23 = bytes_of<0x7362>(x.x[2], x.x[3]);
  return {{bytes_of<0x5410>(low01, low23), bytes_of<0x7632>(low01, low23), bytes_of<0x5410>(high01, high23),
           bytes_of<0x7632>(high01, high23)}};
}

// Two slices of each operand in shared memory: one is filled while the other is multiplied.
template <class Arithmetic>
struct Slices {
  typename Arithmetic::Slice a[2], b[2];
};

// One thread's share of an operand's slices on its way to shared memory, slice after slice: of each group four units of
// a line where terms are the neighbours (along_terms), else a unit's terms of four lines. What is outside the terms is
// 0, and what is outside the lines any number: the sums of such lines are dropped.
template <class Arithmetic, class T, bool along_terms>
class UnitsLoad {
 public:
  __device__ UnitsLoad(const NarrowOperand<T>& from, uint32_t first_line) : from_(from), first_line_(first_line) {
    const bool whole_lines = along_terms || from.lines % 4 == 0 || first_line + Arithmetic::tile <= from.lines;
    whole_terms_ = kept(from.aligned && whole_lines ? from.terms / Arithmetic::depth * Arithmetic::depth : 0);
#pragma unroll
    for (uint32_t g = 0; g < groups; ++g) {
      const Place at = Arithmetic::template place<along_terms>(g);
      const uint32_t line = first_line + at.line, inside = line < from.lines ? line : 0, term = at.unit * unit_terms;
      next_[g] = from.first + (along_terms ? inside * from.stride + term : term * from.stride + inside);
      to_[g] = kept(Arithmetic::number_at(at));
    }
  }

  // The slices from term 0 on, one with each call.
  __device__ void load(uint32_t term) {
    if (term < whole_terms_)
      load_whole();
    else
      load_singly(term);
  }

  __device__ void store(typename Arithmetic::Slice& slice) {
#pragma unroll
    for (uint32_t g = 0; g < groups; ++g) {
      // Not in load(), whose reads would still need the addresses: they would be copied.
      next_[g] += along_terms ? Arithmetic::depth : Arithmetic::depth * from_.stride;
      Arithmetic::template put<along_terms>(slice, to_[g], along_terms ? values_[g] : transposed<T>(values_[g]));
    }
  }

 private:
  static constexpr uint32_t size = sizeof(T), unit_terms = 4 / size, groups = Arithmetic::groups;

  struct alignas(4 * size) FourLines {
    uint32_t x[size];
  };

  __device__ void load_whole() {
#pragma unroll
    for (uint32_t g = 0; g < groups; ++g) {
      if (along_terms) {
        values_[g] = *reinterpret_cast<const Units*>(next_[g]);
        continue;
      }
#pragma unroll
      for (uint32_t t = 0; t < unit_terms; ++t) {
        const FourLines lines = *reinterpret_cast<const FourLines*>(next_[g] + t * from_.stride);
#pragma unroll
        for (uint32_t i = 0; i < size; ++i) values_[g].x[t * size + i] = lines.x[i];
      }
    }
  }

  // A loop, so that this rare way needs little code and few registers; the words pass through the last one's register.
  __device__ void load_singly(uint32_t term) {
    constexpr uint32_t words = 4 * groups;
    uint32_t x[words] = {};
#pragma unroll 1
    for (uint32_t w = 0; w < words; ++w) {
      const Place at = Arithmetic::template place<along_terms>(w / 4);
#pragma unroll
      for (uint32_t i = 0; i + 1 < words; ++i) x[i] = x[i + 1];
      x[words - 1] = word_of(first_line_ + at.line, term + at.unit * unit_terms, w % 4);
    }
#pragma unroll
    for (uint32_t w = 0; w < words; ++w) values_[w / 4].x[w % 4] = x[w];
  }

  // Number w of a group that begins at this line and term.
  __device__ uint32_t word_of(uint32_t first_line, uint32_t first_term, uint32_t w) const {
    constexpr uint32_t mask = size == 1 ? 0xff : 0xffff;
    uint32_t word = 0;
#pragma unroll
    for (uint32_t i = 0; i < unit_terms; ++i) {
      const uint32_t number = w * unit_terms + i;
      const uint32_t line = first_line + (along_terms ? 0 : number % 4);
      const uint32_t term = first_term + (along_terms ? number : number / 4);
      if (line >= from_.lines || term >= from_.terms) continue;
      const T x = from_.first[along_terms ? line * from_.stride + term : term * from_.stride + line];
      word |= (static_cast<uint32_t>(x) & mask) << i * size * 8;
    }
    return word;
  }

  const NarrowOperand<T>& from_;
  const uint32_t first_line_;
  uint32_t whole_terms_;   // from 0 on, whose slices can be read without care
  const T* next_[groups];  // in the next slice
  uint32_t to_[groups];    // in a slice in shared memory
  Units values_[groups] = {};
};

// multiply(which, term) for each slice, which begins at that term, when it is in slices.a[which] and slices.b[which].
// Each step fetches a slice and multiplies the one before.
template <bool a_terms, bool b_terms, class Arithmetic, class T, class Multiply>
__device__ void for_each_slice(const NarrowOperand<T>& a, const NarrowOperand<T>& b, const Corner& at,
                               Slices<Arithmetic>& slices, Multiply multiply) {
  constexpr uint32_t depth = Arithmetic::depth;
  const uint32_t steps = kept((a.terms + depth - 1) / depth);
  UnitsLoad<Arithmetic, T, a_terms> next_a(a, at.row);
  UnitsLoad<Arithmetic, T, b_terms> next_b(b, at.column);
#pragma unroll 1
  for (uint32_t step = 0; step <= steps; ++step) {
    const uint32_t now = step % 2;
    if (step < steps) {
      next_a.load(step * depth);
      next_b.load(step * depth);
    }
    if (step > 0) multiply(now ^ 1, (step - 1) * depth);
    if (step < steps) {
      next_a.store(slices.a[now]);
      next_b.store(slices.b[now]);
    }
    __syncthreads();
  }
}

}  // namespace kernels::cuda
