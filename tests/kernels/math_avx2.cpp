#include "math_avx2.h"

#if defined(__AVX2__)
#include "cpu/elementary.h"
#include "cpu/vector_avx2.h"

namespace kernels {

bool avx2_available() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
void exp_avx2(float* x) { exp(Avx2::load(x)).store(x); }
void tanh_avx2(float* x) { tanh(Avx2::load(x)).store(x); }
float log_avx2(float x) { return log<Avx2>(x); }

}  // namespace kernels
#else
namespace kernels {

bool avx2_available() { return false; }
void exp_avx2(float*) {}
void tanh_avx2(float*) {}
float log_avx2(float x) { return x; }

}  // namespace kernels
#endif
