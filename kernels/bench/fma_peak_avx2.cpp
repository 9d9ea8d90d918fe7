#include "bench/fma_peak.h"
#include "cpu/vector_avx2.h"

namespace kernels::bench {

double fma_peak_avx2(double seconds) { return fma_peak_of<Avx2>(seconds); }

}  // namespace kernels::bench
