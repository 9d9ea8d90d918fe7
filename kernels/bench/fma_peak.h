// Independent chains of multiply-adds in registers, enough to keep two FMA units busy.
#pragma once

#include <cstddef>

#include "bench/measure.h"

namespace kernels::bench {

template <class V>
double fma_peak_of(double seconds) {
  constexpr size_t chains = 12, rounds = 4096;
  static volatile float seed = 1;  // what is not known cannot be folded, and chains that differ cannot be merged
  const double time = seconds_of(seconds, [] {
    const V a = V::broadcast(seed), b = V::broadcast(seed - 1);
    V x[chains];
#pragma GCC unroll 12
    for (size_t c = 0; c < chains; ++c) x[c] = V::broadcast(seed + static_cast<float>(c));
    for (size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
      for (size_t c = 0; c < chains; ++c) x[c] = fma(x[c], a, b);
    }
    V sum = V::zero();
#pragma GCC unroll 12
    for (size_t c = 0; c < chains; ++c) sum = sum + x[c];
    seed = first(sum) > 0 ? 1 : seed;
  });
  return 2.0 * V::width * chains * rounds / time;
}

double fma_peak_avx2(double seconds);
double fma_peak_avx512(double seconds);
double vnni_peak_avx512(double seconds);

}  // namespace kernels::bench
