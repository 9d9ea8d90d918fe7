// Arrays of fp32 or of halves (docs/numerics.md section 10), for kernels that have a variant for each. Their bodies are
// templates over Floats or HalvesOf<Half>.
#pragma once

#include "cuda/halves.cuh"
#include "cuda/tile.cuh"

namespace kernels::cuda {

struct Floats {
  using In = const float*;
  using Out = float*;
  static constexpr bool are_halves = false;

  __device__ static In in(const void* first) { return static_cast<In>(first); }
  __device__ static Out out(void* first) { return static_cast<Out>(first); }

  // Four neighbours, as in tile.cuh.
  __device__ static Vector4 load(In from, uint32_t inside, bool aligned) { return load4(from, inside, aligned); }
  __device__ static void store(Out to, const Vector4& v, uint32_t inside, bool aligned) {
    store4(to, v, inside, aligned);
  }
};

// Four neighbouring halves, two to a word, the first the lower.
struct alignas(8) FourHalves {
  uint32_t x[2];
};

__device__ inline FourHalves load_halves(const uint16_t* from, uint32_t inside, bool aligned) {
  if (aligned && inside >= 4) return *reinterpret_cast<const FourHalves*>(from);
  FourHalves v = {{0, 0}};
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    if (i < inside) v.x[i / 2] |= uint32_t{from[i]} << i % 2 * 16;
  }
  return v;
}

// Number i of each of two fours, the first the lower.
__device__ inline uint32_t pair_of(const FourHalves& low, const FourHalves& high, uint32_t i) {
  return i % 2 ? low.x[i / 2] >> 16 | (high.x[i / 2] & 0xffff0000u) : (low.x[i / 2] & 0xffffu) | high.x[i / 2] << 16;
}

__device__ inline void store_halves(uint16_t* to, const FourHalves& v, uint32_t inside, bool aligned) {
  if (aligned && inside >= 4) {
    *reinterpret_cast<FourHalves*>(to) = v;
    return;
  }
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    if (i < inside) to[i] = static_cast<uint16_t>(v.x[i / 2] >> i % 2 * 16);
  }
}

// Half: of halves.cuh.
template <class Half>
__device__ Vector4 values_of(const FourHalves& v) {
  Vector4 values;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) values.x[i] = Half::value(static_cast<uint16_t>(v.x[i / 2] >> i % 2 * 16));
  return values;
}

template <class Half>
struct HalvesOf {
  struct In {
    const uint16_t* first;
    __device__ float operator[](uint64_t i) const { return Half::value(first[i]); }
    __device__ In operator+(uint64_t i) const { return {first + i}; }
  };
  struct Element {
    uint16_t* at;
    __device__ void operator=(float x) const { *at = static_cast<uint16_t>(Half::pack(x, 0.0f)); }
    __device__ operator float() const { return Half::value(*at); }
  };
  struct Out {
    uint16_t* first;
    __device__ Element operator[](uint64_t i) const { return {first + i}; }
    __device__ Out operator+(uint64_t i) const { return {first + i}; }
  };
  static constexpr bool are_halves = true;

  __device__ static In in(const void* first) { return {static_cast<const uint16_t*>(first)}; }
  __device__ static Out out(void* first) { return {static_cast<uint16_t*>(first)}; }

  __device__ static Vector4 load(In from, uint32_t inside, bool aligned) {
    return values_of<Half>(load_halves(from.first, inside, aligned));
  }
  __device__ static void store(Out to, const Vector4& v, uint32_t inside, bool aligned) {
    store_halves(to.first, {{Half::pack(v.x[0], v.x[1]), Half::pack(v.x[2], v.x[3])}}, inside, aligned);
  }
};

}  // namespace kernels::cuda

// KERNELS(suffix, Half) for the halves that the code has, in kernels' names _fp16 (7.5, and what the driver compiles
// for cards to come) or _bf16 (8.0 and later); the executor of tests/simt/, which is none, has both.
#if !defined(__CUDA_ARCH__)
#define FOR_HALVES(KERNELS) KERNELS(_fp16, Fp16) KERNELS(_bf16, Bf16)
#elif __CUDA_ARCH__ == 750
#define FOR_HALVES(KERNELS) KERNELS(_fp16, Fp16)
#elif __CUDA_ARCH__ >= 800
#define FOR_HALVES(KERNELS) KERNELS(_bf16, Bf16)
#else
#define FOR_HALVES(KERNELS)
#endif
