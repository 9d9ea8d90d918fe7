// The fast engine: every operation is cut into shares, one for each thread (attention into more), and a KernelTable
// computes a share. A share never cuts through a sum, so the bits do not depend on the number of threads.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/float_environment.h"
#include "cpu/kernel_table.h"
#include "cpu/layers.h"
#include "cpu/thread_pool.h"
#include "kernels/blocks.h"
#include "kernels/ops.h"

namespace kernels {
namespace {

constexpr size_t cache_line = 16;  // floats
// Fewer elements than this are not worth waking a thread for.
constexpr size_t grain = 16384;

class CpuOps final : public Ops {
 public:
  CpuOps(size_t threads, const KernelTable& kernels)
      : kernels_(kernels),
        pool_(threads),
        buffers_(static_cast<float*>(std::aligned_alloc(alignment, threads * buffer_bytes()))) {
    if (!buffers_) throw std::bad_alloc();
    // Each thread's buffer is its own from the start: near its core, and never taken from the system within a unit.
    pool_.run(threads, [&](size_t thread) { std::memset(buffer(thread), 0, buffer_bytes()); });
  }

  std::string name() const override { return kernels_.name; }

  void matmul(const Matmul& op) override {
    if (op.block) return for_each_block(op, [&](const Matmul& one) { matmul(one); });
    const FloatEnvironment environment;
    const Grid grid = grid_of(op, kernels_.gemm_rows, kernels_.gemm_columns);
    pool_.run(grid.rows * grid.columns, [&](size_t thread) {
      const Range m = share(op.m, thread / grid.columns, grid.rows, kernels_.gemm_rows);
      const Range n = share(op.n, thread % grid.columns, grid.columns, kernels_.gemm_columns);
      if (m.begin == m.end || n.begin == n.end) return;
      kernels_.matmul(part_of(op, m, n), buffer(thread));
    });
  }

  void quantise_rows(const Quantise& op) override {
    const FloatEnvironment environment;
    over(op.rows, 1, op.columns, [&](Range r) { kernels_.quantise_rows(op, r); });
  }

  void quantise_columns(const Quantise& op) override {
    if (op.block) return for_each_block(op, [&](const Quantise& one) { quantise_columns(one); });
    const FloatEnvironment environment;
    over(op.columns, 4 * cache_line, op.rows, [&](Range r) { kernels_.quantise_columns(op, r); });
  }

  void int8_matmul(const Int8Matmul& op) override {
    if (op.block) return for_each_block(op, [&](const Int8Matmul& one) { int8_matmul(one); });
    const FloatEnvironment environment;
    const Grid grid = grid_of(op, kernels_.int8_rows, kernels_.int8_columns);
    pool_.run(grid.rows * grid.columns, [&](size_t thread) {
      const Range m = share(op.m, thread / grid.columns, grid.rows, kernels_.int8_rows);
      const Range n = share(op.n, thread % grid.columns, grid.columns, kernels_.int8_columns);
      if (m.begin == m.end || n.begin == n.end) return;
      Int8Matmul part = part_of(op, m, n);
      if (op.a_low) part.a_low += m.begin * op.a_row;
      if (op.a_scales) part.a_scales += m.begin;
      if (op.b_scales) part.b_scales += n.begin;
      kernels_.int8_matmul(part, buffer(thread));
    });
  }

  void embedding_forward(const EmbeddingForward& op) override {
    const FloatEnvironment environment;
    over(op.tokens, 1, op.channels, [&](Range r) { kernels_.embedding_forward(op, r); });
  }

  void embedding_backward(const EmbeddingBackward& op) override {
    if (op.block) return for_each_block(op, [&](const EmbeddingBackward& one) { embedding_backward(one); });
    const FloatEnvironment environment;
    over(op.channels, cache_line, op.tokens, [&](Range r) { kernels_.embedding_backward_tokens(op, r); });
    if (!op.dwpe) return;
    over(std::min(op.context, op.tokens), 1, op.tokens / op.context * op.channels,
         [&](Range r) { kernels_.embedding_backward_positions(op, r); });
  }

  void layer_norm_forward(const LayerNormForward& op) override {
    const FloatEnvironment environment;
    over(op.rows, 1, op.channels, [&](Range r) { kernels_.layer_norm_forward(op, r); });
  }

  void layer_norm_backward(const LayerNormBackward& op) override {
    if (op.block) return for_each_block(op, [&](const LayerNormBackward& one) { layer_norm_backward(one); });
    const FloatEnvironment environment;
    // Columns first: dx may overwrite dy.
    over(op.channels, cache_line, op.rows, [&](Range r) { kernels_.layer_norm_backward_columns(op, r); });
    over(op.rows, 1, op.channels, [&](Range r) { kernels_.layer_norm_backward_rows(op, r); });
  }

  void rms_norm_forward(const RmsNormForward& op) override {
    const FloatEnvironment environment;
    over(op.rows, 1, op.channels, [&](Range r) { kernels_.rms_norm_forward(op, r); });
  }

  void rms_norm_backward(const RmsNormBackward& op) override {
    if (op.block) return for_each_block(op, [&](const RmsNormBackward& one) { rms_norm_backward(one); });
    const FloatEnvironment environment;
    // Columns first: dx may overwrite dy.
    over(op.channels, cache_line, op.rows, [&](Range r) { kernels_.rms_norm_backward_columns(op, r); });
    over(op.rows, 1, op.channels, [&](Range r) { kernels_.rms_norm_backward_rows(op, r); });
  }

  void bias_backward(const BiasBackward& op) override {
    if (op.block) return for_each_block(op, [&](const BiasBackward& one) { bias_backward(one); });
    const FloatEnvironment environment;
    over(op.channels, cache_line, op.rows, [&](Range r) { kernels_.bias_backward(op, r); });
  }

  void gelu_forward(const GeluForward& op) override {
    const FloatEnvironment environment;
    over(op.count, cache_line, 8, [&](Range r) { kernels_.gelu_forward(op, r); });
  }

  void gelu_backward(const GeluBackward& op) override {
    const FloatEnvironment environment;
    over(op.count, cache_line, 8, [&](Range r) { kernels_.gelu_backward(op, r); });
  }

  void swiglu_forward(const SwigluForward& op) override {
    const FloatEnvironment environment;
    over(op.rows, 1, op.inner * 8, [&](Range r) { kernels_.swiglu_forward(op, r); });
  }

  void swiglu_backward(const SwigluBackward& op) override {
    const FloatEnvironment environment;
    over(op.rows, 1, op.inner * 8, [&](Range r) { kernels_.swiglu_backward(op, r); });
  }

  void rope(const Rope& op) override {
    const FloatEnvironment environment;
    over(op.tokens, 1, op.heads * op.head_size, [&](Range r) { kernels_.rope(op, r); });
  }

  void attention_forward(const AttentionForward& op) override {
    const FloatEnvironment environment;
    const size_t tiles = kernels_.attention_tiles(op.context);
    over_items(op, op.sequences * op.heads * tiles, [&](size_t u, float* workspace, float* scratch) {
      kernels_.attention_forward(op, u / tiles, u % tiles, workspace, scratch);
    });
  }

  void attention_backward(const AttentionBackward& op) override {
    const FloatEnvironment environment;
    over_items(op, op.sequences * op.kv_heads, [&](size_t item, float* workspace, float* scratch) {
      kernels_.attention_backward(op, item, workspace, scratch);
    });
  }

  void cross_entropy(const CrossEntropy& op) override {
    const FloatEnvironment environment;
    over(op.rows, 1, op.vocabulary * 8, [&](Range r) { kernels_.cross_entropy(op, r); });
  }

  void adamw(const AdamW& op) override {
    const FloatEnvironment environment;
    if (op.tensor_count == 0) return;
    over(op.tensors[op.tensor_count - 1].end, cache_line, 1, [&](Range r) { kernels_.adamw(op, r); });
  }

  void nesterov(const Nesterov& op) override {
    const FloatEnvironment environment;
    over(op.count, cache_line, 1, [&](Range r) { kernels_.nesterov(op, r); });
  }

  float row_sum(const float* x, size_t count) override {
    const FloatEnvironment environment;
    return kernels_.sum(x, count);
  }

  void sums_of_squares(const TensorEnd* tensors, size_t tensor_count, const float* x, float* sums) override {
    const FloatEnvironment environment;
    size_t first = 0;
    for (size_t t = 0; t < tensor_count; first = tensors[t++].end)
      sums[t] = kernels_.sum_of_squares(x + first, tensors[t].end - first);
  }

  void add(const float* x, float* y, size_t count) override {
    const FloatEnvironment environment;
    over(count, cache_line, 1, [&](Range r) { kernels_.add(x, y, r); });
  }

  void scale(float factor, float* y, size_t count) override {
    const FloatEnvironment environment;
    over(count, cache_line, 1, [&](Range r) { kernels_.scale(factor, y, r); });
  }

  void subtract(const float* a, const float* b, float* out, size_t count) override {
    const FloatEnvironment environment;
    over(count, cache_line, 1, [&](Range r) { kernels_.subtract(a, b, out, r); });
  }

  size_t first_non_finite(const float* x, size_t count) override {
    const FloatEnvironment environment;
    return kernels_.first_non_finite(x, {0, count});
  }

  size_t attention_workspace(size_t, size_t context, size_t head_size) const override {
    return pool_.size() * kernels_.attention_workspace(context, head_size);
  }

  size_t embedding_workspace(size_t, size_t channels) const override { return channels; }

  size_t own_bytes() const override { return pool_.size() * buffer_bytes(); }

 private:
  static constexpr size_t alignment = 4096;
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  struct Grid {
    size_t rows, columns;
  };

  // Share number `i` of `parts` of `count` things, in multiples of `unit`.
  static Range share(size_t count, size_t i, size_t parts, size_t unit) {
    const size_t units = (count + unit - 1) / unit;
    const auto bound = [&](size_t p) { return std::min(count, units * p / parts * unit); };
    return {bound(i), bound(i + 1)};
  }

  // Runs f on shares of [0, count), each of whose elements costs about `cost` simple operations.
  template <class F>
  void over(size_t count, size_t unit, size_t cost, const F& f) {
    const size_t threads = std::clamp<size_t>(count * cost / grain, 1, pool_.size());
    pool_.run(threads, [&](size_t thread) {
      const Range r = share(count, thread, threads, unit);
      if (r.begin < r.end) f(r);
    });
  }

  // Runs f(item, workspace, buffer) for each item of an attention. A thread takes the next one when it is done with
  // one: later tiles of queries have more keys.
  template <class Op, class F>
  void over_items(const Op& op, size_t items, const F& f) {
    std::atomic<size_t> next = 0;
    pool_.run(std::min(items, pool_.size()), [&](size_t thread) {
      float* workspace = op.workspace + thread * kernels_.attention_workspace(op.context, op.head_size);
      for (size_t item; (item = next++) < items;) f(item, workspace, buffer(thread));
    });
  }

  // Threads as rows x columns of shares of c, so that operands are packed as little as possible.
  template <class Product>
  Grid grid_of(const Product& op, size_t row_unit, size_t column_unit) const {
    if (op.m * op.n * op.k < 8 * grain) return {1, 1};
    Grid best = {1, pool_.size()};
    size_t best_cost = SIZE_MAX;
    for (size_t rows = 1; rows <= pool_.size(); ++rows) {
      if (pool_.size() % rows != 0) continue;
      const size_t columns = pool_.size() / rows;
      const Range m = share(op.m, rows - 1, rows, row_unit);
      const Range n = share(op.n, columns - 1, columns, column_unit);
      const size_t height = m.end - m.begin, width = n.end - n.begin;
      const size_t cost = height * width + 8 * (height + width);  // multiplying and packing, per k
      if (cost < best_cost) best = {rows, columns}, best_cost = cost;
    }
    return best;
  }

  template <class Product>
  static Product part_of(const Product& op, Range m, Range n) {
    Product part = op;
    part.m = m.end - m.begin, part.n = n.end - n.begin;
    part.a += m.begin * op.a_row;
    part.b += n.begin * op.b_col;
    part.c += m.begin * op.ldc + n.begin;
    if (op.bias) part.bias += n.begin;
    if (op.residual) part.residual += m.begin * op.ldc + n.begin;
    return part;
  }

  size_t buffer_bytes() const {
    return (std::max(kernels_.gemm_buffer, kernels_.int8_buffer) * sizeof(float) + alignment - 1) / alignment *
           alignment;
  }
  float* buffer(size_t thread) { return buffers_.get() + thread * buffer_bytes() / sizeof(float); }

  const KernelTable& kernels_;
  ThreadPool pool_;
  std::unique_ptr<float, Free> buffers_;  // buffer_bytes() for each thread
};

// One way to compute, and whether this CPU can. Fastest first.
struct Path {
  Simd simd;
  const char* name;
  bool (*runs)();
  const KernelTable& (*kernels)();
};
#if defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
Tuning best_tuning() { return __builtin_cpu_is("amd") ? Tuning::amd : Tuning::intel; }
#endif
const Path paths[] = {
#if defined(__x86_64__)
    {Simd::avx512vnni, "avx512vnni", [] { return has_avx512() && __builtin_cpu_supports("avx512vnni"); },
     []() -> const KernelTable& { return avx512vnni_kernels(best_tuning()); }},
    {Simd::avx512, "avx512", has_avx512, []() -> const KernelTable& { return avx512_kernels(best_tuning()); }},
    {Simd::avx2, "avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }, avx2_kernels},
#elif defined(__aarch64__)
    {Simd::neon, "neon", [] { return true; }, neon_kernels},
#endif
    {Simd::portable, "portable", [] { return true; }, portable_kernels},
};

const KernelTable& table_for(Simd simd) {
  for (const Path& path : paths) {
    if ((simd == Simd::automatic || simd == path.simd) && path.runs()) return path.kernels();
  }
  throw std::runtime_error("this CPU cannot run the forced path; unset GRADMINER_SIMD or set it to portable");
}

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(size_t threads, Simd simd) {
  return std::make_unique<CpuOps>(threads == 0 ? available_cores() : threads, table_for(simd));
}

std::vector<Simd> usable_simd() {
  std::vector<Simd> usable;
  for (const Path& path : paths) {
    if (path.runs()) usable.push_back(path.simd);
  }
  return usable;
}

std::string name_of(Simd simd) {
  for (const Path& path : paths) {
    if (path.simd == simd) return path.name;
  }
  return "automatic";
}

Simd simd_from_environment() {
  const char* value = std::getenv("GRADMINER_SIMD");  // NOLINT(concurrency-mt-unsafe): nobody sets variables
  const std::string name = value ? value : "";
  if (name.empty()) return Simd::automatic;
  std::string known;
  for (const Path& path : paths) {
    if (name == path.name) return path.simd;
    known += (known.empty() ? "" : ", ") + std::string(path.name);
  }
  throw std::invalid_argument("GRADMINER_SIMD is '" + name + "'; it may be " + known);
}

}  // namespace kernels
