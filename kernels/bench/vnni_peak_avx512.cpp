#include <immintrin.h>

#include "bench/measure.h"

namespace kernels::bench {

// As fma_peak_of(), of instructions that add four products of bytes to each of 16 int32.
double vnni_peak_avx512(double seconds) {
  constexpr size_t chains = 12, rounds = 4096, products = 64;
  static volatile int seed = 1;
  const double time = seconds_of(seconds, [] {
    const __m512i a = _mm512_set1_epi32(seed), b = _mm512_set1_epi32(seed + 1);
    __m512i x[chains];
#pragma GCC unroll 12
    for (size_t c = 0; c < chains; ++c) x[c] = _mm512_set1_epi32(seed + static_cast<int>(c));
    for (size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
      for (size_t c = 0; c < chains; ++c) x[c] = _mm512_dpbusd_epi32(x[c], a, b);
    }
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 12
    for (size_t c = 0; c < chains; ++c) sum = _mm512_add_epi32(sum, x[c]);
    int lanes[16];
    _mm512_storeu_si512(lanes, sum);
    seed = lanes[0] > 0 ? 1 : seed;
  });
  return 2.0 * products * chains * rounds / time;
}

}  // namespace kernels::bench
