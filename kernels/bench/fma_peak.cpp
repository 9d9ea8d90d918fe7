#include "bench/fma_peak.h"

namespace kernels::bench {

double fma_peak(Simd simd, double seconds) {
  if (simd == Simd::automatic) simd = usable_simd().front();
#if defined(__x86_64__)
  if (simd == Simd::avx512vnni || simd == Simd::avx512) return fma_peak_avx512(seconds);
  if (simd == Simd::avx2) return fma_peak_avx2(seconds);
#endif
  return 0;
}

double vnni_peak(Simd simd, double seconds) {
  if (simd == Simd::automatic) simd = usable_simd().front();
#if defined(__x86_64__)
  if (simd == Simd::avx512vnni) return vnni_peak_avx512(seconds);
#endif
  return 0;
}

}  // namespace kernels::bench
