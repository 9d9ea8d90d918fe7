// The three sums of docs/numerics.md section 3. Each takes the term of index k as a callable.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace kernels::reference {

// Contraction of a(k)·b(k), k = 0 … count − 1.
template <class A, class B>
float contraction(size_t count, A a, B b) {
  float total = 0;
  for (size_t first = 0; first < count; first += 2048) {
    float acc = 0;
    for (size_t k = first; k < std::min(first + 2048, count); ++k) acc = std::fma(a(k), b(k), acc);
    total = total + acc;
  }
  return total;
}

// The row sum of x(0) … x(count − 1).
template <class X>
float R(size_t count, X x) {
  float total = 0;
  for (size_t first = 0; first < count; first += 4096) {
    float lane[32] = {};
    for (size_t i = first; i < std::min(first + 4096, count); ++i)
      lane[(i - first) % 32] = lane[(i - first) % 32] + x(i);
    for (size_t d = 16; d >= 1; d /= 2) {
      float before[32];
      std::copy_n(lane, 32, before);
      for (size_t l = 0; l < 32; ++l) lane[l] = before[l] + before[l ^ d];
    }
    total = total + lane[0];
  }
  return total;
}

// Run sum of x(0) … x(count − 1).
template <class X>
float run_sum(size_t count, X x) {
  float total = 0;
  for (size_t first = 0; first < count; first += 64) {
    float acc = 0;
    for (size_t i = first; i < std::min(first + 64, count); ++i) acc = acc + x(i);
    total = total + acc;
  }
  return total;
}

}  // namespace kernels::reference
