// Compiled with -mavx2 -mfma. Twelve independent chains keep both FMA units of any AVX2 core busy.
#include <immintrin.h>

#include "bench/measure.h"

namespace kernels::bench {

double fma_peak(double seconds) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
  constexpr int chains = 12, rounds = 1 << 16;
  volatile float seed = 1.0f, sink = 0;
  const double best = best_seconds(seconds, [&] {
    const __m256 a = _mm256_set1_ps(seed), b = _mm256_set1_ps(seed - 1);
    __m256 x[chains];
    for (__m256& v : x) v = a;
    for (int i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
      for (int c = 0; c < chains; ++c) x[c] = _mm256_fmadd_ps(x[c], a, b);
    }
    for (const __m256& v : x) sink = sink + _mm256_cvtss_f32(v);
  });
  return 2.0 * 8 * chains * rounds / best;
}

}  // namespace kernels::bench
