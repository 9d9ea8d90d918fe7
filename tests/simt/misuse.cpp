// Kernels for the tests of the executor: some use every operation, the others break a rule each.
#include "device.h"
// After it, since they use the device's words.
#include "cuda/async_copy.cuh"
#include "cuda/dynamic_shared.cuh"
#include "cuda/halves.cuh"
#include "cuda/mma.cuh"
#include "misuse_args.h"

namespace kernels::cuda {

// Sums the threads' numbers of each warp by a butterfly, then those of the warps through shared memory.
extern "C" __global__ void test_block_sum(const TestArgs args) {
  static __shared__ float warps[32];
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  float sum = args.x[thread];
  for (int lanes = 16; lanes >= 1; lanes /= 2) sum += __shfl_xor_sync(0xffffffff, sum, lanes);
  if (thread % 32 == 0) warps[thread / 32] = sum;
  __syncthreads();
  if (thread == 0) {
    for (unsigned w = 1; w < blockDim.x * blockDim.y * blockDim.z / 32; ++w) sum += warps[w];
    args.y[blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z)] = sum;
  }
}

// y[thread] = what the warp operation numbered `number` gives for the lane's number plus 100.
extern "C" __global__ void test_warp_operations(const TestArgs args) {
  const int lane = static_cast<int>(threadIdx.x), value = lane + 100;
  const unsigned all = 0xffffffff;
  int result = 0;
  if (args.number == 0) result = __shfl_sync(all, value, 7);
  if (args.number == 1) result = __shfl_xor_sync(all, value, 5);
  if (args.number == 2) result = __shfl_up_sync(all, value, 3);
  if (args.number == 3) result = __shfl_down_sync(all, value, 3);
  if (args.number == 4) result = static_cast<int>(__ballot_sync(all, lane % 3 == 0));
  if (args.number == 5) result = __any_sync(all, lane == 9) + 2 * __all_sync(all, lane >= 0) + 4 * __any_sync(all, 0);
  // The halves of the warp on their own, each as often as it likes.
  if (args.number == 6) {
    const unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
    for (int i = 0; i < (lane < 16 ? 1 : 3); ++i) result = __shfl_xor_sync(half, value, 1 + i);
  }
  args.y[lane] = static_cast<float>(result);
}

// x: six registers of each lane, four of a and two of b; y: four sums of each. Shapes that have fewer have the first of
// each.
__device__ void multiply_matrices(const TestArgs& args, bool small) {
  const unsigned* in = reinterpret_cast<const unsigned*>(args.x) + 6 * threadIdx.x;
  int* sums = reinterpret_cast<int*>(args.y) + 4 * threadIdx.x;
  if (small) {
    mma_m8n8k16(sums[0], sums[1], in[0], in[4]);
  } else {
    mma_m16n8k32(sums[0], sums[1], sums[2], sums[3], in[0], in[1], in[2], in[3], in[4], in[5]);
  }
}

extern "C" __global__ void test_mma_m8n8k16(const TestArgs args) { multiply_matrices(args, true); }
extern "C" __global__ void test_mma_m16n8k32(const TestArgs args) { multiply_matrices(args, false); }

extern "C" __global__ void test_mma_m16n8k16_bf16(const TestArgs args) {
  const unsigned* in = reinterpret_cast<const unsigned*>(args.x) + 6 * threadIdx.x;
  float* sums = args.y + 4 * threadIdx.x;
  mma_m16n8k16_bf16(sums[0], sums[1], sums[2], sums[3], in[0], in[1], in[2], in[3], in[4], in[5]);
}
extern "C" __global__ void test_mma_m16n8k8_fp16(const TestArgs args) {
  const unsigned* in = reinterpret_cast<const unsigned*>(args.x) + 6 * threadIdx.x;
  float* sums = args.y + 4 * threadIdx.x;
  mma_m16n8k8_fp16(sums[0], sums[1], sums[2], sums[3], in[0], in[1], in[4]);
}

// y = the halves of pairs of x, bf16 and then fp16.
extern "C" __global__ void test_halves(const TestArgs args) {
  uint32_t* words = reinterpret_cast<uint32_t*>(args.y) + 2 * threadIdx.x;
  const float* x = args.x + 2 * threadIdx.x;
  words[0] = Bf16::pack(x[0], x[1]);
  words[1] = Fp16::pack(x[0], x[1]);
}

// x: 32 rows of 16 bytes, lane by lane; y: four registers of each lane. number: transposed.
extern "C" __global__ void test_load_matrices(const TestArgs args) {
  static __shared__ __align__(16) float rows[32 * 4];
  for (unsigned i = 0; i < 4; ++i) rows[4 * threadIdx.x + i] = args.x[4 * threadIdx.x + i];
  __syncthreads();
  uint32_t(&registers)[4] = *reinterpret_cast<uint32_t(*)[4]>(args.y + 4 * threadIdx.x);
  if (args.number == 0) load_matrices(registers, shared_address(rows + 4 * threadIdx.x));
  if (args.number == 1) load_transposed_matrices(registers, shared_address(rows + 4 * threadIdx.x));
}

// y: what lies in shared memory once 16 bytes of x have been copied there, of thread 1 from nowhere. number: 1 looks
// before it has waited, 2 neither waits nor looks.
extern "C" __global__ void test_copies(const TestArgs args) {
  static __shared__ __align__(16) float words[2 * 4];
  begin_copy_16(words + 4 * threadIdx.x, threadIdx.x == 0 ? args.x : nullptr, threadIdx.x == 0);
  if (args.number == 2) return;
  if (args.number == 0) wait_for_copies();
  for (unsigned i = 0; i < 4; ++i) args.y[4 * threadIdx.x + i] = words[4 * threadIdx.x + i];
  if (args.number == 1) wait_for_copies();
}

extern "C" __global__ void test_atomics(const TestArgs args) {
  auto* counts = reinterpret_cast<unsigned*>(args.y);
  atomicAdd(&counts[0], 2u);
  atomicMax(&counts[1], threadIdx.x);
  atomicMin(&counts[2], threadIdx.x);
  atomicOr(&counts[3], 1u << threadIdx.x % 32);
  atomicCAS(&counts[4], threadIdx.x, threadIdx.x + 1);
  atomicExch(&counts[5], 77u);
}

extern "C" __global__ void test_shared_is_poisoned(const TestArgs args) {
  static __shared__ float word[64];
  args.y[blockIdx.x * 64 + threadIdx.x] = word[threadIdx.x];
  word[threadIdx.x] = 1;
}

extern "C" __global__ void test_dynamic_shared(const TestArgs args) {
  float* words = reinterpret_cast<float*>(dynamic_shared);
  words[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  args.y[threadIdx.x] = words[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void test_beyond_shared(const TestArgs args) {
  static __shared__ float word[5];
  float* first = word;
  first[args.number + threadIdx.x] = 1;
  __syncthreads();
  args.y[threadIdx.x] = word[args.number];
}

// A warp reads what the others have not yet written: wrong in one of the two orders.
extern "C" __global__ void test_race(const TestArgs args) {
  static __shared__ float word[64];
  word[threadIdx.x] = 1;
  args.y[threadIdx.x] = word[63 - threadIdx.x];
}

// All blocks write the same word, some after a barrier. number: by atomics.
extern "C" __global__ void test_race_of_blocks(const TestArgs args) {
  static __shared__ unsigned word;
  if (threadIdx.x == 0) word = blockIdx.x;
  __syncthreads();
  if (threadIdx.x != 1) return;
  if (args.number == 1) {
    atomicAdd(reinterpret_cast<unsigned*>(args.y), word);
  } else {
    args.y[0] = static_cast<float>(word);
  }
}

// The same without the race; the lanes of a warp exchange by its own barrier.
extern "C" __global__ void test_barrier_instead(const TestArgs args) {
  static __shared__ float word[64];
  word[threadIdx.x] = 1;
  __syncthreads();
  const float other = word[63 - threadIdx.x];
  __syncthreads();
  word[threadIdx.x] = other + 1;
  __syncwarp();
  args.y[threadIdx.x] = word[threadIdx.x ^ 1];
}

// One thread does not come to the barrier.
extern "C" __global__ void test_missing_thread(const TestArgs args) {
  if (threadIdx.x == args.number) return;
  __syncthreads();
  args.y[threadIdx.x] = 1;
}

extern "C" __global__ void test_two_barriers(const TestArgs args) {
  if (threadIdx.x < args.number) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  args.y[threadIdx.x] = 1;
}

// Lanes from `number` on end before the others vote.
extern "C" __global__ void test_ended_lane(const TestArgs args) {
  if (threadIdx.x >= args.number) return;
  args.y[threadIdx.x] = static_cast<float>(__ballot_sync(0xffffffff, 1));
}

extern "C" __global__ void test_mask_without_itself(const TestArgs args) {
  args.y[threadIdx.x] = static_cast<float>(__any_sync(0xfffffff0, 1));
}

extern "C" __global__ void test_lane_at_barrier(const TestArgs args) {
  if (threadIdx.x == args.number) __syncthreads();
  args.y[threadIdx.x] = __shfl_sync(0xffffffff, 1.0f, 0);
}

extern "C" __global__ void test_reads_outside_mask(const TestArgs args) {
  if (threadIdx.x < 16) args.y[threadIdx.x] = __shfl_sync(0x0000ffff, 1.0f, 20);
}

// The lane `number` does not take part.
extern "C" __global__ void test_mma_missing_lane(const TestArgs args) {
  if (threadIdx.x != args.number) multiply_matrices(args, false);
}

extern "C" __global__ void test_mma_two_shapes(const TestArgs args) {
  multiply_matrices(args, threadIdx.x < args.number);
}

}  // namespace kernels::cuda

SIMT_KERNEL(test_block_sum);
SIMT_KERNEL(test_warp_operations);
SIMT_KERNEL(test_mma_m8n8k16);
SIMT_KERNEL(test_mma_m16n8k32);
SIMT_KERNEL(test_mma_m16n8k16_bf16);
SIMT_KERNEL(test_mma_m16n8k8_fp16);
SIMT_KERNEL(test_halves);
SIMT_KERNEL(test_load_matrices);
SIMT_KERNEL(test_copies);
SIMT_KERNEL(test_atomics);
SIMT_KERNEL(test_shared_is_poisoned);
SIMT_KERNEL(test_dynamic_shared);
SIMT_KERNEL(test_beyond_shared);
SIMT_KERNEL(test_race);
SIMT_KERNEL(test_race_of_blocks);
SIMT_KERNEL(test_barrier_instead);
SIMT_KERNEL(test_missing_thread);
SIMT_KERNEL(test_two_barriers);
SIMT_KERNEL(test_ended_lane);
SIMT_KERNEL(test_mask_without_itself);
SIMT_KERNEL(test_lane_at_barrier);
SIMT_KERNEL(test_reads_outside_mask);
SIMT_KERNEL(test_mma_missing_lane);
SIMT_KERNEL(test_mma_two_shapes);
