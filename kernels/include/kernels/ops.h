// The operations of a training step, each taking one plain struct. An Ops is one way to execute them;
// all give the bits of docs/numerics.md, but for `fast`, which has its own on each model of card. Pointers are
// row-major fp32 unless said otherwise, owned by the caller, and must not alias unless a comment allows it. One Ops is
// used by one thread at a time.
//
// Where a pointer is to FloatsOrHalves the array may be of halves, which only an Ops with half_precision() takes
// (docs/numerics.md section 10). All of one operation are then, but for those that a comment says are fp32.
//
// They point into the memory that the Ops computes in: the host's, or a device's, which only an Ops of that device may
// touch. On the host calls block. On a device they are queued and run in the order of the calls; those that return a
// value or give something to the host (read(), write(), encode(), leaf_hashes()) return when they and all before have
// ended, and a failure of the device is thrown by any later call.
//
// Operations never fail on values: NaN and infinity pass through and are found at the end of a step.
//
// Where an operation sums over tokens it has a field `block`: each `block` tokens from the first on are summed by
// themselves, the last perhaps fewer, and the sums are added upward (docs/numerics.md section 4); 0: all are one block.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/codec.h"

namespace kernels {

// What the halves of `fast` are.
enum class HalfPrecision { none, bf16, fp16 };

// The address of an array of fp32 or of halves, or null. Of fp32 it goes for a pointer.
template <class Float, class Half>
class FloatsOrHalvesAt {
 public:
  FloatsOrHalvesAt(Float* floats = nullptr) : first_(floats) {}
  FloatsOrHalvesAt(Half* halves) : first_(halves), halves_(true) {}
  FloatsOrHalvesAt(std::nullptr_t) {}
  template <class OtherFloat, class OtherHalf>  // const from not const
  FloatsOrHalvesAt(const FloatsOrHalvesAt<OtherFloat, OtherHalf>& other)
      : first_(other.first()), halves_(other.halves()) {}

  bool halves() const { return halves_; }
  auto first() const { return first_; }
  explicit operator bool() const { return first_ != nullptr; }

  operator Float*() const {
    assert(!halves_);
    return static_cast<Float*>(first_);
  }
  Half* as_halves() const {
    assert(halves_ || first_ == nullptr);
    return static_cast<Half*>(first_);
  }
  FloatsOrHalvesAt& operator+=(size_t elements) {
    *this = halves_ ? FloatsOrHalvesAt(static_cast<Half*>(first_) + elements)
                    : FloatsOrHalvesAt(static_cast<Float*>(first_) + elements);
    return *this;
  }

 private:
  std::conditional_t<std::is_const_v<Float>, const void*, void*> first_ = nullptr;
  bool halves_ = false;
};
using FloatsOrHalves = FloatsOrHalvesAt<float, uint16_t>;
using ConstFloatsOrHalves = FloatsOrHalvesAt<const float, const uint16_t>;

// c[m, n] = contraction over k of a(m, k) * b(k, n), then, in this order, + bias[n], + residual[m, n];
// or, with accumulate, c = c + contraction. a(m, k) = a[m * a_row + k * a_col]; b(k, n) = b[k * b_row + n * b_col].
struct Matmul {
  size_t m = 0, n = 0, k = 0;
  const float* a = nullptr;
  size_t a_row = 0, a_col = 1;
  const float* b = nullptr;
  size_t b_row = 0, b_col = 1;
  float* c = nullptr;  // row stride ldc
  size_t ldc = 0;
  const float* bias = nullptr;      // (n) or null
  const float* residual = nullptr;  // (m, n), row stride ldc, or null; may be c itself
  bool accumulate = false;
  size_t block = 0;  // of k; only with accumulate and neither bias nor residual
};

// Matmul of halves, docs/numerics.md section 10. The sum over all of k is fp32 and stays so up to what is stored.
struct FastMatmul {
  size_t m = 0, n = 0, k = 0;
  const uint16_t* a = nullptr;
  size_t a_row = 0, a_col = 1;
  const uint16_t* b = nullptr;
  size_t b_row = 0, b_col = 1;
  FloatsOrHalves c = nullptr;  // row stride ldc
  size_t ldc = 0;
  ConstFloatsOrHalves bias = nullptr;  // (n) or null, of the kind that c is
  const float* residual = nullptr;     // as in Matmul; only where c is fp32
  bool accumulate = false;             // likewise; with neither bias nor residual
  // (m, n), row stride ldc, or null, where c is of halves. c = GELU of what c would be, which is left rounded in
  // before_gelu; or c is multiplied by the derivative of GELU at gelu_input.
  uint16_t* before_gelu = nullptr;
  const uint16_t* gelu_input = nullptr;
  void* workspace = nullptr;  // Ops::fast_workspace() bytes, or null, which costs speed
};

// y = h(x): fp32 as halves.
struct RoundToHalves {
  size_t count = 0;
  const float* x = nullptr;
  uint16_t* y = nullptr;
};

// exact-int8: a vector x becomes integers q of at most 127 and one scale, x ≈ q * scale. quantise_rows() makes a vector
// of each row; quantise_columns() one of each column, whose elements it multiplies by their rows' factors before.
struct Quantise {
  size_t rows = 0, columns = 0;
  size_t row = 0;                      // elements from one row of x, q and low to the next
  size_t block = 0;                    // of rows, whose columns are vectors by themselves; columns only
  const float* x = nullptr;            // (rows, columns)
  const float* row_factors = nullptr;  // (rows) or null; columns only
  int8_t* q = nullptr;                 // (rows, columns)
  int8_t* low = nullptr;               // (rows, columns) or null: the second digit, x ≈ (q + low / 254) * scale
  float* scales = nullptr;             // (rows), or (blocks, columns)
};

// c[m, n] = the dequantised sum over k of a(m, k) * b(k, n), which int32 holds exactly where k <= int8_terms; then
// bias, residual and accumulate as in Matmul. Strides as there; one of a's two strides is 1, and one of b's.
constexpr size_t int8_terms = 133'144;
struct Int8Matmul {
  size_t m = 0, n = 0, k = 0;
  const int8_t* a = nullptr;
  const int8_t* a_low = nullptr;  // a's second digit, laid out as a, or null
  size_t a_row = 0, a_col = 1;
  const float* a_scales = nullptr;  // (m), or null: 1
  const int8_t* b = nullptr;
  size_t b_row = 0, b_col = 1;
  const float* b_scales = nullptr;  // (n), or null: 1
  float* c = nullptr;
  size_t ldc = 0;
  const float* bias = nullptr;
  const float* residual = nullptr;
  bool accumulate = false;
  size_t block = 0;         // as in Matmul
  size_t block_scales = 0;  // from the scales of one block, a's and b's, to those of the next
};

struct EmbeddingForward {
  size_t tokens = 0, channels = 0, context = 0;
  const uint16_t* ids = nullptr;  // (tokens)
  const float* wte = nullptr;     // (vocabulary, channels)
  const float* wpe = nullptr;     // (positions, channels) or null; position of token n is n % context
  float* out = nullptr;           // (tokens, channels)
};
// dwte = dwte + (the block's row sums), dwpe likewise. Rows without tokens are left alone.
struct EmbeddingBackward {
  size_t tokens = 0, channels = 0, context = 0, vocabulary = 0;
  size_t block = 0;  // whole sequences
  const uint16_t* ids = nullptr;
  const float* dout = nullptr;  // (tokens, channels)
  float* dwte = nullptr;        // (vocabulary, channels)
  float* dwpe = nullptr;        // (positions, channels) or null
  float* workspace = nullptr;   // (channels) per thread is enough; sized by embedding_workspace()
};

struct LayerNormForward {
  size_t rows = 0, channels = 0;
  float epsilon = 0;
  const float* x = nullptr;       // (rows, channels)
  const float* weight = nullptr;  // (channels)
  const float* bias = nullptr;    // (channels)
  FloatsOrHalves y = nullptr;     // (rows, channels)
  float* mean = nullptr;          // (rows)
  float* rstd = nullptr;          // (rows)
};
// dx = the norm's gradient (+ dresidual where given). dweight = dweight + the block's sum; dbias likewise.
struct LayerNormBackward {
  size_t rows = 0, channels = 0, block = 0;
  ConstFloatsOrHalves dy = nullptr;
  const float* x = nullptr;
  const float* weight = nullptr;
  const float* mean = nullptr;
  const float* rstd = nullptr;
  const float* dresidual = nullptr;  // (rows, channels) or null; may be dx itself
  float* dx = nullptr;               // may be dy itself, where that is fp32
  uint16_t* dx_halves = nullptr;     // (rows, channels): h(dx), where dy is of halves, and else null
  float* dweight = nullptr;          // (channels)
  float* dbias = nullptr;            // (channels)
};

struct RmsNormForward {
  size_t rows = 0, channels = 0;
  float epsilon = 0;
  const float* x = nullptr;       // (rows, channels)
  const float* weight = nullptr;  // (channels)
  FloatsOrHalves y = nullptr;     // (rows, channels)
  float* rstd = nullptr;          // (rows)
};
// dx = the norm's gradient (+ dresidual where given). dweight = dweight + the block's sum.
struct RmsNormBackward {
  size_t rows = 0, channels = 0, block = 0;
  ConstFloatsOrHalves dy = nullptr;
  const float* x = nullptr;
  const float* weight = nullptr;
  const float* rstd = nullptr;
  const float* dresidual = nullptr;  // (rows, channels) or null; may be dx itself
  float* dx = nullptr;               // may be dy itself, where that is fp32
  uint16_t* dx_halves = nullptr;     // (rows, channels): h(dx), where dy is of halves, and else null
  float* dweight = nullptr;          // (channels)
};

// dbias[j] = dbias[j] + run sum over rows of dy[n, j].
struct BiasBackward {
  size_t rows = 0, channels = 0, block = 0;
  ConstFloatsOrHalves dy = nullptr;
  float* dbias = nullptr;
};

struct GeluForward {
  size_t count = 0;
  ConstFloatsOrHalves x = nullptr;
  FloatsOrHalves y = nullptr;
};
struct GeluBackward {
  size_t count = 0;
  ConstFloatsOrHalves x = nullptr;  // the forward pass's input
  ConstFloatsOrHalves dy = nullptr;
  FloatsOrHalves dx = nullptr;  // may be dy itself
};

// y = silu(gate) * up.
struct SwigluForward {
  size_t rows = 0, inner = 0;
  ConstFloatsOrHalves gate_up = nullptr;  // (rows, 2 * inner): gate | up
  FloatsOrHalves y = nullptr;             // (rows, inner)
};
struct SwigluBackward {
  size_t rows = 0, inner = 0;
  ConstFloatsOrHalves gate_up = nullptr;
  ConstFloatsOrHalves dy = nullptr;   // (rows, inner)
  FloatsOrHalves dgate_up = nullptr;  // (rows, 2 * inner); may be gate_up itself
};

// Rotates the pairs (j, j + head_size / 2) of the first `heads` heads of each row by the angles of its position, in
// place; or back, which is the gradient.
struct Rope {
  size_t tokens = 0, context = 0, heads = 0, head_size = 0;
  size_t row = 0;              // elements from one token to the next
  const float* cos = nullptr;  // (context, head_size / 2); position of token n is n % context
  const float* sin = nullptr;  // likewise
  FloatsOrHalves x = nullptr;  // (tokens, row)
  bool back = false;
};

// Causal multi-head attention over whole sequences. Query head h uses key head h / (heads / kv_heads).
// qkv: (sequences, context, (heads + 2 * kv_heads) * head_size): q | k | v, each head by head. Halves: heads of at most
// fast_head_size.
constexpr size_t fast_head_size = 128;
struct AttentionForward {
  size_t sequences = 0, context = 0, heads = 0, kv_heads = 0, head_size = 0;
  ConstFloatsOrHalves qkv = nullptr;
  FloatsOrHalves out = nullptr;  // (sequences, context, heads * head_size)
  float* row_max = nullptr;      // (sequences, heads, context)
  float* inverse_sum = nullptr;  // (sequences, heads, context)
  float* workspace = nullptr;    // Ops::attention_workspace() floats
};
struct AttentionBackward {
  size_t sequences = 0, context = 0, heads = 0, kv_heads = 0, head_size = 0;
  ConstFloatsOrHalves qkv = nullptr;
  ConstFloatsOrHalves out = nullptr;
  const float* row_max = nullptr;
  const float* inverse_sum = nullptr;
  ConstFloatsOrHalves dout = nullptr;
  FloatsOrHalves dqkv = nullptr;  // every element is written
  float* workspace = nullptr;     // Ops::attention_workspace() floats
};

// losses[n] = cross-entropy of row n; where scale_gradient != 0 the logits become dlogits in place,
// with g = scale_gradient.
struct CrossEntropy {
  size_t rows = 0, vocabulary = 0;
  size_t row = 0;                     // elements from one row of logits to the next
  FloatsOrHalves logits = nullptr;    // (rows, vocabulary)
  const uint16_t* targets = nullptr;  // (rows)
  float* losses = nullptr;            // (rows)
  float scale_gradient = 0;
};

// One of several tensors that lie one behind the other: it begins where the one before ends, the first at element 0.
struct TensorEnd {
  size_t end = 0;
  bool decays = false;  // AdamW's weights
};

// AdamW, docs/numerics.md section 6, over tensors. `decay` is for the weights of those that decay.
struct AdamW {
  size_t tensor_count = 0;
  const TensorEnd* tensors = nullptr;  // on the host
  float beta1 = 0, one_minus_beta1 = 0, beta2 = 0, one_minus_beta2 = 0, epsilon = 0;
  float decay = 1, step_size = 0, inv_sqrt_bc2 = 1;
  const float* g = nullptr;
  float* w = nullptr;
  float* m = nullptr;
  float* v = nullptr;
};
struct Nesterov {
  size_t count = 0;
  float lr = 0, momentum = 0;
  const float* g = nullptr;
  float* w = nullptr;
  float* m = nullptr;
};

// Values on their way into a payload (kernels/codec.h), which is in the host's memory wherever they are. They must be
// finite. What begins at a multiple of codec_block may be encoded by itself.
struct Encode {
  Codec codec = Codec::fp32;
  size_t count = 0;
  const float* x = nullptr;
  uint8_t* scales = nullptr;  // scale_bytes(codec, count)
  uint8_t* digits = nullptr;  // digit_bytes(codec, count)
};

// What Ops::repeated() gives: operations that are asked for again and again with the very same arguments.
class RepeatedOperations {
 public:
  virtual ~RepeatedOperations() = default;

  // Calls `operations`, which are only queued and wait for nothing, or queues once more what they came to
  // when they were called before. Throws what they throw; a Cancelled among that ends it for good: each run calls them
  // then.
  virtual void run(const std::function<void()>& operations) = 0;
};

class Ops {
 public:
  virtual ~Ops() = default;

  virtual std::string name() const = 0;  // "reference", "avx512vnni", "avx512", "avx2", "neon", "portable", "cuda"

  // What its halves are; none where it does not compute `fast`.
  virtual HalfPrecision half_precision() const { return HalfPrecision::none; }

  // The memory that it computes in; the host's unless it says otherwise. allocate() gives memory of any content,
  // aligned to 64 bytes, and throws std::bad_alloc or what the device throws; free() takes null. copy() is within this
  // memory.
  virtual bool in_host_memory() const { return true; }
  virtual void* allocate(size_t bytes);
  virtual void free(void* memory) noexcept;
  virtual void write(void* memory, const void* host, size_t bytes);
  virtual void read(void* host, const void* memory, size_t bytes);
  virtual void copy(void* to, const void* from, size_t bytes);
  virtual void zero(void* memory, size_t bytes);
  // Bytes that allocate() could give now. Of the host's memory it knows nothing: SIZE_MAX.
  virtual size_t free_bytes() { return SIZE_MAX; }

  // Tokens at a time with which its products keep all of it busy; 0: any block does.
  virtual size_t wanted_tokens() const { return 0; }

  // For operations that come again and again; null where nothing is gained by it. The Ops outlives it.
  virtual std::unique_ptr<RepeatedOperations> repeated() { return nullptr; }

  virtual void matmul(const Matmul&) = 0;
  // Without half_precision() these two throw std::logic_error.
  virtual void fast_matmul(const FastMatmul&);
  virtual void round_to_halves(const RoundToHalves&);
  virtual void quantise_rows(const Quantise&) = 0;
  virtual void quantise_columns(const Quantise&) = 0;
  virtual void int8_matmul(const Int8Matmul&) = 0;
  virtual void embedding_forward(const EmbeddingForward&) = 0;
  virtual void embedding_backward(const EmbeddingBackward&) = 0;
  virtual void layer_norm_forward(const LayerNormForward&) = 0;
  virtual void layer_norm_backward(const LayerNormBackward&) = 0;
  virtual void rms_norm_forward(const RmsNormForward&) = 0;
  virtual void rms_norm_backward(const RmsNormBackward&) = 0;
  virtual void bias_backward(const BiasBackward&) = 0;
  virtual void gelu_forward(const GeluForward&) = 0;
  virtual void gelu_backward(const GeluBackward&) = 0;
  virtual void swiglu_forward(const SwigluForward&) = 0;
  virtual void swiglu_backward(const SwigluBackward&) = 0;
  virtual void rope(const Rope&) = 0;
  virtual void attention_forward(const AttentionForward&) = 0;
  virtual void attention_backward(const AttentionBackward&) = 0;
  virtual void cross_entropy(const CrossEntropy&) = 0;
  virtual void adamw(const AdamW&) = 0;
  virtual void nesterov(const Nesterov&) = 0;

  virtual float row_sum(const float* x, size_t count) = 0;                              // R(x)
  virtual void add(const float* x, float* y, size_t count) = 0;                         // y = y + x
  virtual void scale(float factor, float* y, size_t count) = 0;                         // y = y * factor
  virtual void subtract(const float* a, const float* b, float* out, size_t count) = 0;  // a - b; may alias
  // sums[t] = R(x*x) of tensor t; `tensors` is on the host, sums (tensor_count) where x is.
  virtual void sums_of_squares(const TensorEnd* tensors, size_t tensor_count, const float* x, float* sums) = 0;
  // Index of the first element that is not finite, or count.
  virtual size_t first_non_finite(const float* x, size_t count) = 0;
  // SHA-256 of a zero byte and each `leaf` floats of x, the last maybe fewer: the leaves of an RFC 6962 tree, 32 bytes
  // each, which come to the host. For what lies in memory of the operations' own; others throw std::logic_error.
  virtual void leaf_hashes(const float* x, size_t count, size_t leaf, uint8_t* hashes);
  virtual void encode(const Encode&);

  // Workspaces in floats, for all threads of this Ops together. queries: sequences * heads * context.
  virtual size_t attention_workspace(size_t queries, size_t context, size_t head_size) const = 0;
  virtual size_t embedding_workspace(size_t vocabulary, size_t channels) const = 0;
  // Bytes for any FastMatmul.
  virtual size_t fast_workspace() const { return 0; }
  // Bytes that this Ops holds for itself (packing buffers), part of the planned memory.
  virtual size_t own_bytes() const = 0;
};

// The definition: plain loops, one thread.
std::unique_ptr<Ops> make_reference_ops();

enum class Simd { automatic, avx512vnni, avx512, avx2, neon, portable };

// The fast engine: shares that cut through no sum, over `threads` (0 = one per core that this process may use).
// Throws std::runtime_error when a forced path cannot run on this CPU, std::system_error where the system does not give
// that many threads.
std::unique_ptr<Ops> make_cpu_ops(size_t threads, Simd simd = Simd::automatic);

// The paths that this CPU can run, fastest first; automatic is the first. name_of gives what GRADMINER_SIMD calls them.
std::vector<Simd> usable_simd();
std::string name_of(Simd simd);

// Reads GRADMINER_SIMD: unset or empty is automatic; else avx512vnni, avx512, avx2 or portable, on AArch64 neon or
// portable. Throws std::invalid_argument otherwise.
Simd simd_from_environment();

}  // namespace kernels
