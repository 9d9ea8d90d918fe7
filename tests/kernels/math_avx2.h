// The AVX2 path's elementary functions for math_test.cpp; arrays of 8, in place.
#pragma once

namespace kernels {

bool avx2_available();
void exp_avx2(float* x);
void tanh_avx2(float* x);
float log_avx2(float x);

}  // namespace kernels
