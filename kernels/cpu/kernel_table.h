// What one instruction set provides: each operation on one thread's share. The tables are filled in translation units
// of their own with their own compiler flags (avx512.cpp, avx2.cpp, neon.cpp, portable.cpp). Templates over the vector
// type have different names there, so the linker can never mix code of two instruction sets; those units use nothing of
// the standard library that it could share between them.
#pragma once

#include <cstddef>

#include "kernels/ops.h"

namespace kernels {

struct Range;

// Whose processors the multiplying loop of products suits; the bits are the same. For Intel's every other row is
// multiplied by an operand from memory, which spares decoding, and panels of b are prefetched; AMD's (Zen 5) are slower
// with either.
enum class Tuning { intel, amd };

struct KernelTable {
  const char* name;

  size_t gemm_buffer;              // floats that one thread's `buffer` must hold
  size_t gemm_rows, gemm_columns;  // a share of c is best a multiple of these
  void (*matmul)(const Matmul& share, float* buffer);

  size_t int8_buffer;  // likewise for int8_matmul
  size_t int8_rows, int8_columns;
  void (*int8_matmul)(const Int8Matmul& share, float* buffer);
  void (*quantise_rows)(const Quantise&, Range rows);
  void (*quantise_columns)(const Quantise&, Range columns);

  void (*embedding_forward)(const EmbeddingForward&, Range tokens);
  void (*embedding_backward_tokens)(const EmbeddingBackward&, Range columns);
  void (*embedding_backward_positions)(const EmbeddingBackward&, Range positions);
  void (*layer_norm_forward)(const LayerNormForward&, Range rows);
  void (*layer_norm_backward_columns)(const LayerNormBackward&, Range columns);
  void (*layer_norm_backward_rows)(const LayerNormBackward&, Range rows);
  void (*rms_norm_forward)(const RmsNormForward&, Range rows);
  void (*rms_norm_backward_columns)(const RmsNormBackward&, Range columns);
  void (*rms_norm_backward_rows)(const RmsNormBackward&, Range rows);
  void (*bias_backward)(const BiasBackward&, Range columns);
  void (*gelu_forward)(const GeluForward&, Range elements);
  void (*gelu_backward)(const GeluBackward&, Range elements);
  void (*swiglu_forward)(const SwigluForward&, Range rows);
  void (*swiglu_backward)(const SwigluBackward&, Range rows);
  void (*rope)(const Rope&, Range tokens);
  void (*cross_entropy)(const CrossEntropy&, Range rows);

  // Items are (sequence, head) pairs, sequence-major; backward's are (sequence, key head) pairs. A thread's workspace
  // has attention_workspace floats.
  size_t (*attention_workspace)(size_t context, size_t head_size);
  size_t (*attention_tiles)(size_t context);  // tiles of queries in an item
  void (*attention_forward)(const AttentionForward&, size_t item, size_t tile, float* workspace, float* buffer);
  void (*attention_backward)(const AttentionBackward&, size_t item, float* workspace, float* buffer);

  void (*adamw)(const AdamW&, Range elements);
  void (*nesterov)(const Nesterov&, Range elements);
  void (*add)(const float* x, float* y, Range elements);
  void (*scale)(float factor, float* y, Range elements);
  void (*subtract)(const float* a, const float* b, float* out, Range elements);
  float (*sum)(const float* x, size_t count);
  float (*sum_of_squares)(const float* x, size_t count);
  size_t (*first_non_finite)(const float* x, Range elements);
};

const KernelTable& portable_kernels();
#if defined(__x86_64__)
// Call their functions only where the CPU has AVX2 and FMA, or AVX-512 F, VL, BW and DQ, and VNNI.
const KernelTable& avx2_kernels();
const KernelTable& avx512_kernels(Tuning);
const KernelTable& avx512vnni_kernels(Tuning);
#elif defined(__aarch64__)
const KernelTable& neon_kernels();
#endif

}  // namespace kernels
