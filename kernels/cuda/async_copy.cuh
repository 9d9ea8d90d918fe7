// Copies to shared memory that go on beside other work, of compute capability 8.0 and later: cp.async of the PTX ISA. A
// thread's copies are there for all threads of the block once it has waited for them and a barrier has followed.
#pragma once

#include "cuda/mma.cuh"

namespace kernels::cuda {

// 16 bytes, zeros where `from` is not inside, which is not read then; both are aligned to 16 bytes.
__device__ inline void begin_copy_16(void* to, const void* from, bool inside) {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(to)), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
#else
  simt_begin_copy_16(to, from, inside);
#endif
}

// For all that the thread has begun.
__device__ inline void wait_for_copies() {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.wait_all;" : : : "memory");
#else
  simt_wait_for_copies();
#endif
}

}  // namespace kernels::cuda
