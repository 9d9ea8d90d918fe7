// Tiles of products, what the products and attention share: slices of operands in shared memory, sums in registers.
//
// An operand has lines (rows of a, columns of b) of terms. A slice is a few terms of a tile's lines, in shared memory
// term by term: term t of line l at [t * slice_row(lines) + l]. A thread owns its sums and adds terms upward.
#pragma once

#include "cuda/shapes.h"

namespace kernels::cuda {

// Four neighbours, moved at once where they are aligned.
template <class T>
struct alignas(4 * sizeof(T)) Four {
  T x[4];
};
using Vector4 = Four<float>;

__device__ inline Vector4 operator+(const Vector4& a, const Vector4& b) {
  return {{a.x[0] + b.x[0], a.x[1] + b.x[1], a.x[2] + b.x[2], a.x[3] + b.x[3]}};
}

// The first `inside` of four floats, then zeros. aligned: that whole groups are Vector4s.
__device__ inline Vector4 load4(const float* from, uint32_t inside, bool aligned) {
  if (aligned && inside >= 4) return *reinterpret_cast<const Vector4*>(from);
  Vector4 v;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) v.x[i] = i < inside ? from[i] : 0.0f;
  return v;
}

__device__ inline void store4(float* to, const Vector4& v, uint32_t inside, bool aligned) {
  if (aligned && inside >= 4) {
    *reinterpret_cast<Vector4*>(to) = v;
    return;
  }
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    if (i < inside) to[i] = v.x[i];
  }
}

// How many of the things from `first` on are below `end`.
__device__ inline uint32_t left(uint32_t first, uint32_t end) { return first < end ? end - first : 0; }

// Term t of line l stands at first[l * stride + t], or, where lines are the neighbours, at first[t * stride + l].
struct Operand {
  const float* first;
  uint64_t stride;
  uint32_t lines, terms;
  bool aligned;  // groups of four neighbours may be read at once
};

// Floats from one term of a slice to the next: whole vectors, and other banks for the terms that threads store at once.
__device__ constexpr uint32_t slice_row(uint32_t lines) { return lines + 4; }

// One thread's share of a tile's slices, one after the other, on their way to shared memory. The neighbours in memory
// are terms (along_terms) or lines.
template <uint32_t lines, uint32_t depth, uint32_t threads, bool along_terms>
struct SliceLoad {
  static constexpr uint32_t across = (along_terms ? depth : lines) / 4, apart = threads / across;
  static constexpr uint32_t groups = lines * depth / 4 / threads;
  static_assert(groups * 4 * threads == lines * depth && apart * across == threads, "every thread has whole groups");
  const float* next;  // this thread's first group of the next slice, the others are `apart` lines or terms apart
  uint64_t stride;
  uint32_t lines_left;
  bool aligned;
  Vector4 values[groups];

  // Lines [line, line + lines) from the term on.
  __device__ SliceLoad(const Operand& from, uint32_t line, uint32_t term)
      : stride(from.stride), lines_left(left(line, from.lines)), aligned(from.aligned) {
    const uint32_t l = line + line_of(0), t = term + term_of(0);
    next = from.first + (along_terms ? l * stride + t : t * stride + l);
  }

  // Whether all lines are inside and groups aligned.
  __device__ bool whole() const { return aligned && lines_left >= lines; }

  // A slice of which `terms_left` terms are left; what is outside the operand is 0.
  __device__ void load(uint32_t terms_left) {
    if (whole() && terms_left >= depth) return load_whole();
#pragma unroll
    for (uint32_t g = 0; g < groups; ++g) {
      const uint32_t l = left(line_of(g), lines_left), t = left(term_of(g), terms_left);
      values[g] = load4(group(g), along_terms ? (l ? t : 0) : (t ? l : 0), aligned);
    }
    advance();
  }

  // The same of a slice of `depth` terms, where whole().
  __device__ void load_whole() {
#pragma unroll
    for (uint32_t g = 0; g < groups; ++g) values[g] = *reinterpret_cast<const Vector4*>(group(g));
    advance();
  }

  __device__ void store(float* slice) const {
#pragma unroll
    for (uint32_t g = 0; g < groups; ++g) {
      float* to = slice + term_of(g) * slice_row(lines) + line_of(g);
      if (along_terms) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) to[i * slice_row(lines)] = values[g].x[i];
      } else {
        *reinterpret_cast<Vector4*>(to) = values[g];
      }
    }
  }

 private:
  __device__ const float* group(uint32_t g) const { return next + g * apart * stride; }
  __device__ void advance() { next += along_terms ? depth : depth * stride; }

  __device__ static uint32_t line_of(uint32_t g) {
    return along_terms ? threadIdx.x / across + g * apart : threadIdx.x % across * 4;
  }
  __device__ static uint32_t term_of(uint32_t g) {
    return along_terms ? threadIdx.x % across * 4 : threadIdx.x / across + g * apart;
  }
};

// x, which the compiler is not to compute again in each turn of a loop.
__device__ inline uint32_t kept(uint32_t x) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(x));
#endif
  return x;
}

// Where a thread's sums lie among those of its block, of which `across` are side by side. A warp has 4 x 8 threads, and
// each eighth of it 2 x 2: of lanes that read four neighbours each, shared memory serves 16 at once where lanes in
// pairs read the same, all one or all two numbers apart, and else 8 (docs/measurements/issue-slots.md).
struct ThreadPlace {
  uint32_t row, column;
};

template <uint32_t across>
__device__ ThreadPlace thread_place() {
  static_assert(across % 8 == 0);
  const uint32_t warp = threadIdx.x / warp_lanes, lane = threadIdx.x % warp_lanes;
  return {warp / (across / 8) * 4 + lane / 4 % 2 * 2 + lane % 2, warp % (across / 8) * 8 + lane / 8 * 2 + lane / 2 % 2};
}

__device__ inline ThreadPlace kept(const ThreadPlace& at) { return {kept(at.row), kept(at.column)}; }

// A thread's `each` lines of a tile's `lines` are groups of four neighbours: line i is number line_of_thread(…, i).
template <uint32_t lines, uint32_t each>
__device__ uint32_t line_of_thread(uint32_t thread, uint32_t i) {
  return i / 4 * (lines / (each / 4)) + thread * 4 + i % 4;
}

template <uint32_t lines, uint32_t each, class T>
__device__ void load_lines(T (&x)[each], const T* term, uint32_t thread) {
#pragma unroll
  for (uint32_t i = 0; i < each; i += 4) {
    const Four<T> v = *reinterpret_cast<const Four<T>*>(term + line_of_thread<lines, each>(thread, i));
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) x[i + j] = v.x[j];
  }
}

// The thread's sums go on through `depth` terms of a slice of a (tile_m lines) and one of b (tile_n lines). Of a term,
// two columns are passed in a zigzag, down one pair and up the next: each product has a factor of the one before, which
// then need not be read from a register again. docs/measurements/issue-slots.md has what that saves.
template <uint32_t depth, uint32_t tile_m, uint32_t tile_n, uint32_t thread_m, uint32_t thread_n>
__device__ void multiply_slices(float (&sums)[thread_m][thread_n], const ThreadPlace& at, const float* a,
                                const float* b) {
#pragma unroll
  for (uint32_t t = 0; t < depth; ++t) {
    float x[thread_m], y[thread_n];
    load_lines<tile_m>(x, a + t * slice_row(tile_m), at.row);
    load_lines<tile_n>(y, b + t * slice_row(tile_n), at.column);
#pragma unroll
    for (uint32_t j = 0; j < thread_n; j += 2) {
#pragma unroll
      for (uint32_t step = 0; step < 2 * thread_m; ++step) {
        const uint32_t down = step / 2, row = j % 4 ? thread_m - 1 - down : down, column = j + (down + step) % 2;
        sums[row][column] = __fmaf_rn(x[row], y[column], sums[row][column]);
      }
    }
  }
}

template <uint32_t rows, uint32_t columns, class T>
__device__ void clear(T (&sums)[rows][columns]) {
#pragma unroll
  for (uint32_t i = 0; i < rows; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < columns; ++j) sums[i][j] = 0;
  }
}

// The end of a chunk of docs/numerics.md section 3: its sums are added to the totals and begin anew.
template <uint32_t rows, uint32_t columns>
__device__ void end_chunk(float (&totals)[rows][columns], float (&sums)[rows][columns]) {
#pragma unroll
  for (uint32_t i = 0; i < rows; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < columns; ++j) totals[i][j] = totals[i][j] + sums[i][j];
  }
  clear(sums);
}

// f(i, j, sums (i, j) to (i, j + 3)) for each four neighbours of the thread's sums. They pass through shared memory, to
// which nobody has another use any more: registers cannot be chosen by a loop, and without one f would stand in the
// code for each four, which makes minutes of the assembler's work.
template <uint32_t threads, uint32_t rows, uint32_t columns, class Shared, class F>
__device__ void loop_over_fours(const float (&sums)[rows][columns], Shared& shared, F f) {
  constexpr uint32_t across = columns / 4, fours = rows * across, fitting = sizeof shared / (threads * sizeof(Vector4));
  constexpr uint32_t at_once = fitting < fours ? fitting : fours;
  static_assert(at_once > 0 && fours % at_once == 0);
  Vector4* const own = reinterpret_cast<Vector4*>(&shared) + threadIdx.x;
#pragma unroll
  for (uint32_t first = 0; first < fours; first += at_once) {
#pragma unroll
    for (uint32_t at = 0; at < at_once; ++at) {
      const float(&x)[columns] = sums[(first + at) / across];
      const uint32_t j = (first + at) % across * 4;
      own[at * threads] = {{x[j], x[j + 1], x[j + 2], x[j + 3]}};
    }
#pragma unroll 1
    for (uint32_t at = 0; at < at_once; ++at) f((first + at) / across, (first + at) % across * 4, own[at * threads]);
  }
}

// Of a tile in c.
struct Corner {
  uint32_t row, column;
};

// Args: of a product, with its names in matmul_args.h.
template <class Args>
__device__ Corner corner_of_tile(const Args& p, uint32_t number, uint32_t size) {
  return p.rows_first ? Corner{number % p.row_tiles * size, number / p.row_tiles * size}
                      : Corner{number / p.column_tiles * size, number % p.column_tiles * size};
}

// What follows the contraction, for four neighbours of c.
template <class Args>
__device__ void put(const Args& p, uint32_t m, uint32_t n, Vector4 y) {
  const uint32_t inside = left(n, p.n);
  const bool aligned = p.c_aligned != 0;
  const uint64_t at = m * p.ldc + n;
  if (p.bias) y = y + load4(p.bias + n, inside, aligned);
  if (p.residual) y = y + load4(p.residual + at, inside, aligned);
  if (p.accumulate) y = load4(p.c + at, inside, aligned) + y;
  store4(p.c + at, y, inside, aligned);
}

}  // namespace kernels::cuda
