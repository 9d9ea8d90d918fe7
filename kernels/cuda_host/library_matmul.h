// The products of linear layers by a GemmLibrary, and the launches of kernels/cuda/activations.cu and of
// int8_matmul_scales that go with them. False where the product is left to our own kernels: nothing of it is queued
// then that matters.
#pragma once

#include "cuda_host/gemm_library.h"
#include "cuda_host/launch.h"
#include "kernels/ops.h"

namespace kernels::cuda {

// Where all that the product has lies on whole groups of 16 bytes.
bool library_fast_matmul(const FastMatmul& op, HalfPrecision half, GemmLibrary& library, Launcher& device);

// Where terms are neighbours in both operands, and there is one digit; the bits of our own kernels.
bool library_int8_matmul(const Int8Matmul& op, GemmLibrary& library, Launcher& device);

}  // namespace kernels::cuda
