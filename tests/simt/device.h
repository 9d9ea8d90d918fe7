// Compiles a .cu of kernels/cuda/ with the host's compiler: a file of tests/simt/kernels/ includes this header, then
// the .cu, then names its entry points with SIMT_KERNEL. simt::SimtLauncher (launcher.h) runs them.
//
// What a .cu may use, besides the language (C++17, no headers but those of kernels/cuda/):
//   entry points      extern "C" __global__ void name(const NameArgs args), optionally with __launch_bounds__
//   functions         __device__, inline or templates; __forceinline__
//   shared memory     static __shared__ T x[n]; in an entry point only (give templates and inline functions a pointer);
//                     cuda/dynamic_shared.cuh, aligned to 16 bytes, for what the launch sizes
//   coordinates       threadIdx, blockIdx, blockDim, gridDim; a warp is 32 threads in the order x, y, z
//   barriers          __syncthreads(): by every thread of the block, none of which has ended; __syncwarp(mask)
//   warp operations   __shfl_sync, __shfl_xor_sync, __shfl_up_sync, __shfl_down_sync (of 4 or 8 bytes, width 32),
//                     __ballot_sync, __any_sync, __all_sync: by every lane of the mask, none of which has ended;
//                     cuda/mma.cuh: by all 32 lanes
//   copies            cuda/async_copy.cuh; nothing is there before the thread has waited
//   atomics           on int, unsigned and unsigned long long: atomicAdd, Min, Max, Or, Exch, CAS; never on floats
//   arithmetic        __fmaf_rn, __fadd_rn, __fsub_rn, __fmul_rn, __fdiv_rn, __fsqrt_rn, + - * / on float (each rounds
//                     once), fabsf, fmaxf, cuda/approximate.cuh, min and max of integers, __popc, __clz, __ffs, __dp4a
//   conversions       __float_as_uint, __float_as_int, __uint_as_float, __int_as_float, __float2int_rn, static_cast
//   vectors           int2, int4, uint2, uint4, float2, float4 and their make_ functions
// Inline PTX stands behind #if defined(__CUDA_ARCH__), which only NVRTC defines, with plain code for the other case.
//
// The executor fails with simt::Failure, which names kernel, block, threads and lines, where threads of a block wait at
// different barriers or one has ended while others wait; where a lane calls a warp operation with a mask that leaves it
// out or names a lane that does not exist or has ended, or lanes of a mask call different operations; where a shuffle
// reads a lane outside the mask; and where a thread ends that has not waited for its copies. Shared memory is filled
// with NaN before each block. Built with the address sanitizer, an access outside a shared array, beyond the launch's
// dynamic shared memory, or outside an allocation is found; with the thread sanitizer, two accesses of a block's
// threads that neither __syncthreads nor __syncwarp orders, and of threads of two blocks of a launch, which nothing
// orders.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "registry.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// One place for the shared variables of a file's kernels, so that it can be filled before each block. Without `static`
// the compiler refuses it.
#define __shared__ __attribute__((section(SIMT_TEXT(SIMT_SECTION))))

struct uint3 {
  unsigned x, y, z;
};
using dim3 = uint3;
struct __align__(8) int2 {
  int x, y;
};
struct __align__(16) int4 {
  int x, y, z, w;
};
struct __align__(8) uint2 {
  unsigned x, y;
};
struct __align__(16) uint4 {
  unsigned x, y, z, w;
};
struct __align__(8) float2 {
  float x, y;
};
struct __align__(16) float4 {
  float x, y, z, w;
};

inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Set by the executor before a thread runs on.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

// Barriers and warp operations. Defaulted arguments note the caller's line.

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::barrier({file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  return simt::ballot(mask, predicate != 0, {file, line});
}
inline int __any_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, file, line) == mask;
}
inline void __syncwarp(unsigned mask = 0xffffffff, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::warp_barrier(mask, {file, line});
}

template <class T>
T simt_shuffle(unsigned mask, T value, unsigned source, simt::Site site) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  return std::bit_cast<T>(static_cast<Bits>(simt::shuffle(mask, std::bit_cast<Bits>(value), source, site)));
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return simt_shuffle(mask, value, static_cast<unsigned>(source) % 32, {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return simt_shuffle(mask, value, (simt::lane() ^ static_cast<unsigned>(lanes)) % 32, {file, line});
}
// Lanes that have no source keep their own value.
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, const char* file = __builtin_FILE(),
                 int line = __builtin_LINE()) {
  const unsigned lane = simt::lane();
  return simt_shuffle(mask, value, lane < delta ? lane : lane - delta, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE()) {
  const unsigned lane = simt::lane();
  return simt_shuffle(mask, value, lane + delta > 31 ? lane : lane + delta, {file, line});
}

// What cuda/mma.cuh does on a GPU.
inline void simt_mma_m8n8k16(int& sum0, int& sum1, unsigned a, unsigned b, const char* file = __builtin_FILE(),
                             int line = __builtin_LINE()) {
  simt::Fragments lane{.shape = simt::Mma::m8n8k16, .a = {a}, .b = {b}, .sums = {sum0, sum1}};
  simt::multiply_matrices(lane, {file, line});
  sum0 = lane.sums[0], sum1 = lane.sums[1];
}
inline void simt_mma_m16n8k32(int& sum0, int& sum1, int& sum2, int& sum3, unsigned a0, unsigned a1, unsigned a2,
                              unsigned a3, unsigned b0, unsigned b1, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  simt::Fragments lane{
      .shape = simt::Mma::m16n8k32, .a = {a0, a1, a2, a3}, .b = {b0, b1}, .sums = {sum0, sum1, sum2, sum3}};
  simt::multiply_matrices(lane, {file, line});
  sum0 = lane.sums[0], sum1 = lane.sums[1], sum2 = lane.sums[2], sum3 = lane.sums[3];
}
// Of floats; the fragments have the registers of a and b.
inline void simt_multiply_floats(simt::Fragments lane, float& sum0, float& sum1, float& sum2, float& sum3,
                                 simt::Site site) {
  float* const sums[] = {&sum0, &sum1, &sum2, &sum3};
  for (int i = 0; i < 4; ++i) lane.sums[i] = std::bit_cast<int32_t>(*sums[i]);
  simt::multiply_matrices(lane, site);
  for (int i = 0; i < 4; ++i) *sums[i] = std::bit_cast<float>(lane.sums[i]);
}
inline void simt_mma_m16n8k16_bf16(float& sum0, float& sum1, float& sum2, float& sum3, unsigned a0, unsigned a1,
                                   unsigned a2, unsigned a3, unsigned b0, unsigned b1,
                                   const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt_multiply_floats({.shape = simt::Mma::m16n8k16_bf16, .a = {a0, a1, a2, a3}, .b = {b0, b1}, .sums = {}}, sum0,
                       sum1, sum2, sum3, {file, line});
}
inline void simt_mma_m16n8k8_fp16(float& sum0, float& sum1, float& sum2, float& sum3, unsigned a0, unsigned a1,
                                  unsigned b0, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt_multiply_floats({.shape = simt::Mma::m16n8k8_fp16, .a = {a0, a1}, .b = {b0}, .sums = {}}, sum0, sum1, sum2, sum3,
                       {file, line});
}

// 16 bytes that are moved at once: the undefined-behaviour sanitizer finds those that are not aligned.
struct __align__(16) SimtGroup {
  uint16_t x[8];
};

// Four matrices of 8 rows of 8 16-bit numbers, lane l having the row l % 8 of matrix l / 8: "ldmatrix" of the PTX ISA.
inline void simt_load_matrices(unsigned (&x)[4], const void* row, bool transposed, const char* file = __builtin_FILE(),
                               int line = __builtin_LINE()) {
  uint64_t rows[32];
  simt::gather(reinterpret_cast<uint64_t>(row), rows, {file, line});
  const unsigned group = simt::lane() / 4, pair = simt::lane() % 4 * 2;
  for (unsigned matrix = 0; matrix < 4; ++matrix) {
    const auto number = [&](unsigned of_row, unsigned column) -> unsigned {
      return reinterpret_cast<const SimtGroup*>(rows[8 * matrix + of_row])->x[column];
    };
    x[matrix] = transposed ? number(pair, group) | number(pair + 1, group) << 16
                           : number(group, pair) | number(group, pair + 1) << 16;
  }
}

// What cuda/async_copy.cuh does on a GPU, which may write at any time from now on: NaN at once, and what is copied when
// the thread has waited.
inline void simt_begin_copy_16(void* to, const void* from, bool inside) {
  SimtGroup nan;
  std::fill_n(nan.x, 8, uint16_t{0xffff});
  *static_cast<SimtGroup*>(to) = nan;
  simt::copies().push_back({to, from, inside});
}
inline void simt_wait_for_copies() {
  for (const simt::Copy& copy : simt::copies()) {
    SimtGroup group = {};
    if (copy.inside) group = *static_cast<const SimtGroup*>(copy.from);
    *static_cast<SimtGroup*>(copy.to) = group;
  }
  simt::copies().clear();
}

// Atomics: each returns what was there before.

template <class T>
constexpr bool is_atomic =
    std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long>;
template <class T, class Change>
T simt_atomic(T* p, Change change) {
  static_assert(is_atomic<T>, "atomics are for int, unsigned and unsigned long long");
  T before = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(p, &before, change(before), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return before;
}
template <class T>
T atomicAdd(T* p, std::type_identity_t<T> x) {
  static_assert(is_atomic<T>, "no atomics on floats: docs/numerics.md fixes the order of sums");
  return __atomic_fetch_add(p, x, __ATOMIC_RELAXED);
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> x) {
  return simt_atomic(p, [x](T before) { return std::min(before, x); });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> x) {
  return simt_atomic(p, [x](T before) { return std::max(before, x); });
}
template <class T>
T atomicOr(T* p, std::type_identity_t<T> x) {
  return simt_atomic(p, [x](T before) { return before | x; });
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> x) {
  return simt_atomic(p, [x](T) { return x; });
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> x) {
  return simt_atomic(p, [=](T before) { return before == expected ? x : before; });
}

// Arithmetic.

// Most of what the tests compute. Without -mfma, std::fma is a call of a function behind a pointer.
inline float __fmaf_rn(float a, float b, float c) {
#if defined(__x86_64__)
  if (simt::has_fma) {
    asm("vfmadd231ss %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
    return c;
  }
#endif
  return std::fma(a, b, c);
}
// What cuda/approximate.cuh does on a GPU.
inline float simt_power_of_two(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}
inline float simt_binary_logarithm(float x) { return std::log2(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
// The nearest integer, ties to even; beyond the int32 the nearest of those, and 0 for NaN.
inline int __float2int_rn(float x) {
  if (x != x) return 0;
  if (x >= 0x1p31f) return INT32_MAX;
  if (x < -0x1p31f) return INT32_MIN;
  return static_cast<int>(std::nearbyintf(x));
}

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __dp4a(int a, int b, int c) {
  unsigned sum = static_cast<unsigned>(c);  // it wraps
  for (int i = 0; i < 32; i += 8) {
    sum += static_cast<unsigned>(static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i));
  }
  return static_cast<int>(sum);
}
using std::max;
using std::min;
