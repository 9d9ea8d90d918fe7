// Matrix products by a library of the card's maker, in place of the kernels of fast_matmul.cu and int8_matmul.cu.
#pragma once

#include <cstddef>

namespace kernels::cuda {

// c[m, n] = the sum over k of a(m, k)·b(k, n); of digits it is int32; of halves fp32 or halves, with what follows below
// in the library's order.
struct LibraryProduct {
  enum class Type { bf16, fp16, int8 };
  // Lines (rows of a, columns of b) of terms, as in kernels/cuda/tile.cuh.
  struct Operand {
    const void* first = nullptr;
    size_t stride = 0;
    bool terms = false;  // whether a line's terms are neighbours, else the lines are
  };

  Type type = Type::bf16;
  size_t m = 0, n = 0, k = 0;
  Operand a, b;
  void* c = nullptr;
  size_t ldc = 0;
  bool c_halves = false;
  const void* bias = nullptr;        // (n), as c, or null
  const void* addend = nullptr;      // (m, n), row stride ldc, as c, or null; may be c
  void* before_gelu = nullptr;       // halves, (m, n), row stride ldc, or null: what c is the GELU of; c is of halves
  const void* gelu_input = nullptr;  // likewise: c is multiplied by the derivative of GELU there; without bias
  void* workspace = nullptr;         // library_workspace_bytes, aligned to 256, or null: an algorithm without
};
constexpr size_t library_workspace_bytes = size_t{32} << 20;  // what NVIDIA advises for an H100

// Of one device; used by one thread at a time. Pointers are device pointers, aligned to 16 bytes, as strides are.
class GemmLibrary {
 public:
  virtual ~GemmLibrary() = default;

  // Queues the product, like a launch; the same algorithm for the same sizes. False where the library does not take it,
  // or has failed once: then nothing is queued. Throws what the launcher throws.
  virtual bool multiply(const LibraryProduct& product) = 0;

  // Whether it takes products with before_gelu or gelu_input.
  virtual bool has_gelu() const = 0;
};

}  // namespace kernels::cuda
