// Products of small matrices by the lanes of a warp, all 32 of which call it together: tensor cores. Which elements a
// lane holds says the PTX ISA ("Matrix fragments for mma.m8n8k16" and its like): with g = lane / 4 and t = lane % 4,
// register by register,
//   a    rows g and g + 8 by turns, terms 4t … 4t + 3, then 16 terms further
//   b    column g, terms 4t … 4t + 3, then 16 terms further
//   sums row g, columns 2t and 2t + 1, then row g + 8
// (m8n8k16 has the first of each alone). Of 16-bit numbers a register has two: terms 2t and 2t + 1, then 8 terms
// further (which m16n8k8 does not have). tests/simt/ does the same on the CPU.
//
// Sums of integers are exact. Those of 16-bit numbers are fp32, of exact products; in which order and with which
// rounding they are added is the card's own.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

__device__ inline void mma_m8n8k16(int32_t& sum0, int32_t& sum1, uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__)
  asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
               : "+r"(sum0), "+r"(sum1)
               : "r"(a), "r"(b));
#else
  simt_mma_m8n8k16(sum0, sum1, a, b);
#endif
}

__device__ inline void mma_m16n8k32(int32_t& sum0, int32_t& sum1, int32_t& sum2, int32_t& sum3, uint32_t a0,
                                    uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
#if defined(__CUDA_ARCH__)
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sum0), "+r"(sum1), "+r"(sum2), "+r"(sum3)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
  simt_mma_m16n8k32(sum0, sum1, sum2, sum3, a0, a1, a2, a3, b0, b1);
#endif
}

__device__ inline void mma_m16n8k16_bf16(float& sum0, float& sum1, float& sum2, float& sum3, uint32_t a0, uint32_t a1,
                                         uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
#if defined(__CUDA_ARCH__)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum0), "+f"(sum1), "+f"(sum2), "+f"(sum3)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
  simt_mma_m16n8k16_bf16(sum0, sum1, sum2, sum3, a0, a1, a2, a3, b0, b1);
#endif
}

__device__ inline void mma_m16n8k8_fp16(float& sum0, float& sum1, float& sum2, float& sum3, uint32_t a0, uint32_t a1,
                                        uint32_t b0) {
#if defined(__CUDA_ARCH__)
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(sum0), "+f"(sum1), "+f"(sum2), "+f"(sum3)
               : "r"(a0), "r"(a1), "r"(b0));
#else
  simt_mma_m16n8k8_fp16(sum0, sum1, sum2, sum3, a0, a1, b0);
#endif
}

// An address in shared memory as load_matrices() takes it; what is added to it are bytes.
#if defined(__CUDA_ARCH__)
using SharedAddress = uint32_t;
#else
using SharedAddress = const unsigned char*;
#endif

__device__ inline SharedAddress shared_address(const void* p) {
#if defined(__CUDA_ARCH__)
  uint32_t address;
  asm("{ .reg .u64 whole; cvta.to.shared.u64 whole, %1; cvt.u32.u64 %0, whole; }" : "=r"(address) : "l"(p));
  return address;
#else
  return static_cast<SharedAddress>(p);
#endif
}

// Four matrices of 8 rows of 8 16-bit numbers: lane l gives the address of row l % 8 of matrix l / 8, aligned to 16
// bytes. Of each matrix a lane gets row g, columns 2t and 2t + 1: a register of a, or of b where its columns are rows
// here. All 32 lanes call it.
__device__ inline void load_matrices(uint32_t (&x)[4], SharedAddress row) {
#if defined(__CUDA_ARCH__)
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(row)
               : "memory");
#else
  simt_load_matrices(x, row, false);
#endif
}

// The same, but of each matrix column g, rows 2t and 2t + 1: a register of b where its terms are rows here.
__device__ inline void load_transposed_matrices(uint32_t (&x)[4], SharedAddress row) {
#if defined(__CUDA_ARCH__)
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(row)
               : "memory");
#else
  simt_load_matrices(x, row, true);
#endif
}

}  // namespace kernels::cuda
