// Loops over the elements of a row by vectors V, and the row sum R of docs/numerics.md section 3. They are always
// inlined: for a row of a few vectors, the call, which copies what f captures, costs more than the work.
#pragma once

#include <cstddef>
#include <limits>

#include "cpu/vector_parts.h"

namespace kernels {

// f(j, part) for the elements [first, last), a vector at a time.
template <class V, class F>
inline __attribute__((always_inline)) void for_each_vector(size_t first, size_t last, F f) {
  size_t j = first;
  for (; j + V::width <= last; j += V::width) f(j, Whole{});
  if (j < last) f(j, Part{last - j});
}

// R of the n values f(j, part): a vector of the elements from j on; lanes beyond the part may hold anything.
template <class V, class F>
inline __attribute__((always_inline)) float row_sum(size_t n, F f) {
  constexpr size_t lanes = 32, segment = 4096, vectors = lanes / V::width;
  float total = 0;
  for (size_t start = 0; start < n; start += segment) {
    const size_t end = n - start < segment ? n : start + segment;
    V lane[vectors];
    for (V& x : lane) x = V::zero();
    size_t j = start;
    for (; j + lanes <= end; j += lanes) {
#pragma GCC unroll 8
      for (size_t i = 0; i < vectors; ++i) lane[i] = lane[i] + f(j + i * V::width, Whole{});
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < vectors; ++i) {  // unrolled, so that the lanes stay in registers
      const size_t at = j + i * V::width;
      if (at + V::width <= end) {
        lane[i] = lane[i] + f(at, Whole{});
      } else if (at < end) {
        lane[i] = lane[i] + keep(f(at, Part{end - at}), Part{end - at});
      }
    }
#pragma GCC unroll 4
    for (size_t d = vectors / 2; d > 0; d /= 2) {
#pragma GCC unroll 4
      for (size_t i = 0; i < d; ++i) lane[i] = lane[i] + lane[i + d];
    }
    total = total + butterfly(lane[0]);
  }
  return total;
}

// Four maxima at a time, the last vector of the row over what was already seen.
template <class V>
float row_max(const float* x, size_t n) {
  constexpr size_t width = V::width, group = 4;
  float highest_of_few = -std::numeric_limits<float>::infinity();
  if (n < width) {
    for (size_t j = 0; j < n; ++j) highest_of_few = x[j] > highest_of_few ? x[j] : highest_of_few;
    return highest_of_few;
  }
  V m[group];
  for (V& v : m) v = V::load(x + n - width);
  size_t j = 0;
  for (; j + group * width <= n; j += group * width) {
#pragma GCC unroll 4
    for (size_t i = 0; i < group; ++i) m[i] = max(V::load(x + j + i * width), m[i]);
  }
  for (; j + width <= n; j += width) m[0] = max(V::load(x + j), m[0]);
  return highest(max(max(m[0], m[1]), max(m[2], m[3])));
}

}  // namespace kernels
