#include "bench/fma_peak.h"
#include "cpu/vector_avx512.h"

namespace kernels::bench {

double fma_peak_avx512(double seconds) { return fma_peak_of<Avx512>(seconds); }

}  // namespace kernels::bench
