#include "cuda_host/cuda_ops.h"

#include "cuda/bias_args.h"
#include "cuda/cross_entropy_args.h"
#include "cuda/elementwise_args.h"
#include "cuda/embedding_args.h"
#include "cuda/encode_args.h"
#include "cuda/leaf_hashes_args.h"
#include "cuda/norm_args.h"
#include "cuda/optimisers_args.h"
#include "cuda/quantise_args.h"
#include "cuda/rope_args.h"
#include "cuda/round_to_halves_args.h"
#include "cuda/sums_args.h"
#include "cuda_host/activation_launch.h"
#include "cuda_host/attention_launch.h"
#include "cuda_host/half_precision.h"
#include "cuda_host/library_matmul.h"
#include "cuda_host/matmul_launch.h"
#include "cuda_host/repeated_launches.h"
#include "cuda_host/shape.h"
#include "kernels/blocks.h"

namespace kernels::cuda {
namespace {

constexpr size_t chunk_sums_bytes = chunk_sums_floats * sizeof(float);

// Elements whose scales and digits are made at once.
constexpr size_t encoded_part = 2 << 20;
static_assert(encoded_part % codec_block == 0 && 2 * encoded_part <= chunk_sums_bytes);

QuantiseArgs quantise_args(const Quantise& op) {
  return {.rows = narrow(op.rows),
          .columns = narrow(op.columns),
          .row = narrow(op.row),
          .block = narrow(op.block > 0 ? op.block : op.rows),
          .x = op.x,
          .row_factors = op.row_factors,
          .q = op.q,
          .low = op.low,
          .scales = op.scales};
}

// A sum without rows has a block, too.
size_t blocks_in(size_t rows, size_t block) { return rows == 0 ? 1 : ceil_div(rows, block); }

// f(tensors) with as many tensors at a time as a launch takes.
template <class F>
void for_each_launch(std::span<const TensorEnd> tensors, const F& f) {
  for (size_t first = 0; first < tensors.size(); first += launch_tensors)
    f(tensors.subspan(first, std::min<size_t>(launch_tensors, tensors.size() - first)));
}

}  // namespace

CudaOps::CudaOps(Launcher& device, Int8Arithmetic int8, HalfPrecision half, ByLibrary by_library)
    : device_(device),
      int8_(int8),
      half_(half),
      by_library_(by_library),
      chunk_sums_(device.allocate(chunk_sums_bytes), Free{&device}),
      scratch_(nullptr, Free{&device}) {}

std::unique_ptr<RepeatedOperations> CudaOps::repeated() {
  std::unique_ptr<Recording> recording = device_.make_recording();
  return recording ? std::make_unique<RepeatedLaunches>(std::move(recording)) : nullptr;
}

// So each multiprocessor has a tile of 128 x 128 for every 128 columns of a layer's output.
size_t CudaOps::wanted_tokens() const { return size_t{128} * device_.multiprocessors(); }

size_t CudaOps::own_bytes() const { return chunk_sums_bytes + scratch_bytes_; }

void CudaOps::matmul(const Matmul& op) {
  const std::span chunk_sums(static_cast<float*>(chunk_sums_.get()), chunk_sums_floats);
  launch_matmul(op, matmul_tile(op.m, op.n, op.k, op.block, device_.multiprocessors()), chunk_sums, device_);
}

void CudaOps::fast_matmul(const FastMatmul& op) {
  if (by_library_.halves && library_fast_matmul(op, half_, *by_library_.halves, device_)) return;
  launch_fast_matmul(op, tensor_core_tile(op.m, op.n, device_.multiprocessors()), half_, device_);
}

void CudaOps::round_to_halves(const RoundToHalves& op) {
  if (op.count == 0) return;
  const RoundToHalvesArgs args{
      .count = op.count, .x = op.x, .y = op.y, .aligned = aligned(op.x, 0) && aligned(op.y, 0), .padding = 0};
  launch(device_, variant("round_to_halves", op.y, half_).c_str(), over_fours(op.count), args);
}

void CudaOps::quantise_rows(const Quantise& op) {
  if (op.rows == 0) return;
  const Shape shape{.grid = {narrow(op.rows), 1, 1}, .block = {warp_lanes * quantise_warps, 1, 1}};
  launch(device_, "quantise_rows", shape, quantise_args(op));
}

void CudaOps::quantise_columns(const Quantise& op) {
  if (op.columns == 0) return;
  const QuantiseArgs args = quantise_args(op);
  launch(device_, "quantise_columns", over_columns(op.columns, blocks_in(op.rows, args.block), column_warps), args);
}

size_t CudaOps::fast_workspace() const { return by_library_.halves ? library_workspace_bytes : 0; }

void CudaOps::int8_matmul(const Int8Matmul& op) {
  if (by_library_.digits && library_int8_matmul(op, *by_library_.digits, device_)) return;
  const uint32_t tile = int8_matmul_tile(op.m, op.n, int8_, device_.multiprocessors());
  launch_int8_matmul(op, tile, int8_, device_);
}

void CudaOps::embedding_forward(const EmbeddingForward& op) {
  const EmbeddingForwardArgs args{.tokens = narrow(op.tokens),
                                  .channels = narrow(op.channels),
                                  .context = narrow(op.context),
                                  .padding = 0,
                                  .ids = op.ids,
                                  .wte = op.wte,
                                  .wpe = op.wpe,
                                  .out = op.out};
  launch(device_, "embedding_forward", over_matrix(op.tokens, op.channels), args);
}

void CudaOps::embedding_backward(const EmbeddingBackward& op) {
  if (op.block) return for_each_block(op, [&](const EmbeddingBackward& one) { embedding_backward(one); });
  const EmbeddingBackwardTokensArgs tokens{
      .tokens = narrow(op.tokens), .channels = narrow(op.channels), .ids = op.ids, .dout = op.dout, .dwte = op.dwte};
  const Shape shape{.grid = {tokens.tokens, blocks_for(op.channels, size_t{4} * warp_lanes), 1},
                    .block = {warp_lanes, 4, 1}};
  launch(device_, "embedding_backward_tokens", shape, tokens);
  if (!op.dwpe) return;
  const EmbeddingBackwardPositionsArgs positions{.tokens = narrow(op.tokens),
                                                 .channels = narrow(op.channels),
                                                 .context = narrow(op.context),
                                                 .padding = 0,
                                                 .dout = op.dout,
                                                 .dwpe = op.dwpe};
  launch(device_, "embedding_backward_positions", over_matrix(std::min(op.context, op.tokens), op.channels), positions);
}

void CudaOps::layer_norm_forward(const LayerNormForward& op) {
  const LayerNormForwardArgs args{.rows = narrow(op.rows),
                                  .channels = narrow(op.channels),
                                  .x = op.x,
                                  .weight = op.weight,
                                  .bias = op.bias,
                                  .y = op.y.first(),
                                  .mean = op.mean,
                                  .rstd = op.rstd,
                                  .epsilon = op.epsilon,
                                  .padding = 0};
  launch(device_, variant("layer_norm_forward", op.y, half_).c_str(), warp_per_row(op.rows), args);
}

RunSums CudaOps::run_sums(size_t rows, size_t columns, size_t block, std::initializer_list<float*> out) const {
  RunSums sums{.rows = narrow(rows),
               .columns = narrow(columns),
               .block = narrow(block > 0 ? block : rows),
               .sums = narrow(out.size()),
               .out = {},
               .block_sums = nullptr};
  std::ranges::copy(out, sums.out);
  const size_t blocks = blocks_in(rows, sums.block);
  if (blocks == 1) return sums;
  if (blocks * out.size() * columns > chunk_sums_floats)
    throw std::length_error("no room for the sums of " + std::to_string(blocks) + " blocks");
  sums.block_sums = static_cast<float*>(chunk_sums_.get());
  return sums;
}

template <class Args>
void CudaOps::launch_run_sums(const std::string& kernel, const RunSums& sums, const Args& args) {
  launch(device_, kernel.c_str(), over_columns(sums.columns, blocks_in(sums.rows, sums.block), run_warps), args);
  if (sums.block_sums) launch(device_, "add_block_sums", over_matrix(sums.sums, sums.columns), sums);
}

// The gains first: dx may be dy.
void CudaOps::layer_norm_backward(const LayerNormBackward& op) {
  const LayerNormBackwardArgs args{.rows = narrow(op.rows),
                                   .channels = narrow(op.channels),
                                   .dy = op.dy.first(),
                                   .x = op.x,
                                   .weight = op.weight,
                                   .mean = op.mean,
                                   .rstd = op.rstd,
                                   .dresidual = op.dresidual,
                                   .dx = op.dx,
                                   .dx_halves = op.dx_halves,
                                   .gains = run_sums(op.rows, op.channels, op.block, {op.dweight, op.dbias})};
  launch_run_sums(variant("layer_norm_backward_gains", op.dy, half_), args.gains, args);
  launch(device_, variant("layer_norm_backward_rows", op.dy, half_).c_str(), warp_per_row(op.rows), args);
}

void CudaOps::rms_norm_forward(const RmsNormForward& op) {
  const RmsNormForwardArgs args{.rows = narrow(op.rows),
                                .channels = narrow(op.channels),
                                .x = op.x,
                                .weight = op.weight,
                                .y = op.y.first(),
                                .rstd = op.rstd,
                                .epsilon = op.epsilon,
                                .padding = 0};
  launch(device_, variant("rms_norm_forward", op.y, half_).c_str(), warp_per_row(op.rows), args);
}

void CudaOps::rms_norm_backward(const RmsNormBackward& op) {
  const RmsNormBackwardArgs args{.rows = narrow(op.rows),
                                 .channels = narrow(op.channels),
                                 .dy = op.dy.first(),
                                 .x = op.x,
                                 .weight = op.weight,
                                 .rstd = op.rstd,
                                 .dresidual = op.dresidual,
                                 .dx = op.dx,
                                 .dx_halves = op.dx_halves,
                                 .gains = run_sums(op.rows, op.channels, op.block, {op.dweight})};
  launch_run_sums(variant("rms_norm_backward_gains", op.dy, half_), args.gains, args);
  launch(device_, variant("rms_norm_backward_rows", op.dy, half_).c_str(), warp_per_row(op.rows), args);
}

void CudaOps::bias_backward(const BiasBackward& op) {
  const BiasBackwardArgs args{.run = run_sums(op.rows, op.channels, op.block, {op.dbias}), .dy = op.dy.first()};
  launch_run_sums(variant("bias_backward", op.dy, half_), args.run, args);
}

void CudaOps::gelu_forward(const GeluForward& op) { launch_gelu_forward(op, half_, device_); }

void CudaOps::gelu_backward(const GeluBackward& op) { launch_gelu_backward(op, half_, device_); }

void CudaOps::swiglu_forward(const SwigluForward& op) { launch_swiglu_forward(op, half_, device_); }

void CudaOps::swiglu_backward(const SwigluBackward& op) { launch_swiglu_backward(op, half_, device_); }

void CudaOps::rope(const Rope& op) {
  const RopeArgs args{.tokens = narrow(op.tokens),
                      .context = narrow(op.context),
                      .heads = narrow(op.heads),
                      .head_size = narrow(op.head_size),
                      .row = op.row,
                      .cos = op.cos,
                      .sin = op.sin,
                      .x = op.x.first(),
                      .back = op.back,
                      .padding = 0};
  launch(device_, variant("rope", op.x, half_).c_str(), over_matrix(op.tokens, op.heads * (op.head_size / 2)), args);
}

void CudaOps::attention_forward(const AttentionForward& op) {
  if (op.qkv.halves()) return launch_flash_attention_forward(op, half_, device_);
  launch_attention_forward(op, device_);
}

void CudaOps::attention_backward(const AttentionBackward& op) {
  if (op.qkv.halves()) return launch_flash_attention_backward(op, half_, device_);
  launch_attention_backward(op, device_);
}

void CudaOps::cross_entropy(const CrossEntropy& op) {
  if (op.rows == 0) return;
  const CrossEntropyArgs args{.logits = op.logits.first(),
                              .targets = op.targets,
                              .losses = op.losses,
                              .vocabulary = narrow(op.vocabulary),
                              .row = narrow(op.row),
                              .scale_gradient = op.scale_gradient,
                              .aligned = aligned(op.logits, op.row)};
  launch(device_, variant("cross_entropy", op.logits, half_).c_str(),
         Shape{.grid = {narrow(op.rows), 1, 1}, .block = {row_threads, 1, 1}}, args);
}

void CudaOps::adamw(const AdamW& op) {
  AdamWArgs args{.begin = 0,
                 .g = op.g,
                 .w = op.w,
                 .m = op.m,
                 .v = op.v,
                 .beta1 = op.beta1,
                 .one_minus_beta1 = op.one_minus_beta1,
                 .beta2 = op.beta2,
                 .one_minus_beta2 = op.one_minus_beta2,
                 .epsilon = op.epsilon,
                 .step_size = op.step_size,
                 .inv_sqrt_bc2 = op.inv_sqrt_bc2,
                 .tensor_count = 0,
                 .tensors = {}};
  for_each_launch({op.tensors, op.tensor_count}, [&](std::span<const TensorEnd> tensors) {
    args.tensor_count = narrow(tensors.size());
    for (size_t t = 0; t < tensors.size(); ++t)
      args.tensors[t] = {.end = tensors[t].end, .decay = tensors[t].decays ? op.decay : 1, .padding = 0};
    const uint64_t end = tensors.back().end;
    const Shape shape{.grid = {blocks_for(end - args.begin, adamw_elements), 1, 1}, .block = {adamw_threads, 1, 1}};
    if (end > args.begin) launch(device_, "adamw", shape, args);
    args.begin = end;
  });
}

void CudaOps::nesterov(const Nesterov& op) {
  if (op.count == 0) return;
  const NesterovArgs args{.count = op.count, .g = op.g, .w = op.w, .m = op.m, .lr = op.lr, .momentum = op.momentum};
  launch(device_, "nesterov", over_elements(op.count), args);
}

void* CudaOps::scratch(size_t bytes) {
  if (bytes > scratch_bytes_) {
    scratch_.reset();  // before the larger one is asked for
    scratch_bytes_ = 0;
    scratch_.reset(device_.allocate(bytes));
    scratch_bytes_ = bytes;
  }
  return scratch_.get();
}

// The row sums of tensors, or of their squares; `partial` is for those of their segments.
void CudaOps::add_up(const char* segment_kernel, std::span<const TensorEnd> tensors, const float* x, float* partial,
                     float* sums) {
  SegmentSumsArgs args{.x = x, .partial = partial, .sums = sums, .tensor_count = 0, .padding = 0, .bounds = {}};
  for_each_launch(tensors, [&](std::span<const TensorEnd> some) {
    args.tensor_count = narrow(some.size());
    size_t segments = 0;
    for (size_t t = 0; t < some.size(); ++t) {
      segments += blocks_for(some[t].end - args.bounds[t].element, segment_elements);
      args.bounds[t + 1] = {.element = some[t].end, .segment = narrow(segments), .padding = 0};
    }
    if (segments > 0) launch(device_, segment_kernel, warp_per_row(segments), args);
    launch(device_, "add_segments", Shape{.grid = {args.tensor_count, 1, 1}, .block = {warp_lanes, 1, 1}}, args);
    args.sums += some.size();
    args.bounds[0].element = some.back().end;
  });
}

// The scratch memory holds the sum, then those of the segments.
float CudaOps::row_sum(const float* x, size_t count) {
  const TensorEnd whole{.end = count};
  auto* total = static_cast<float*>(scratch((1 + blocks_for(count, segment_elements)) * sizeof(float)));
  add_up("segment_sums", {&whole, 1}, x, total + 1, total);
  float sum;
  device_.read(&sum, total, sizeof sum);
  return sum;
}

// A tensor may end within a segment.
void CudaOps::sums_of_squares(const TensorEnd* tensors, size_t tensor_count, const float* x, float* sums) {
  if (tensor_count == 0) return;
  const size_t segments = tensors[tensor_count - 1].end / segment_elements + tensor_count;  // at most
  auto* partial = static_cast<float*>(scratch(segments * sizeof(float)));
  add_up("segment_sums_of_squares", {tensors, tensor_count}, x, partial, sums);
}

void CudaOps::add(const float* x, float* y, size_t count) {
  if (count == 0) return;
  launch(device_, "add", over_elements(count), AddArgs{.count = count, .x = x, .y = y});
}

void CudaOps::scale(float factor, float* y, size_t count) {
  if (count == 0) return;
  launch(device_, "scale", over_elements(count), ScaleArgs{.count = count, .y = y, .factor = factor, .padding = 0});
}

void CudaOps::subtract(const float* a, const float* b, float* out, size_t count) {
  if (count == 0) return;
  launch(device_, "subtract", over_elements(count), SubtractArgs{.count = count, .a = a, .b = b, .out = out});
}

size_t CudaOps::first_non_finite(const float* x, size_t count) {
  if (count == 0) return 0;
  auto* index = static_cast<unsigned long long*>(scratch(sizeof(unsigned long long)));
  launch(device_, "set_index", Shape{}, SetIndexArgs{.index = index, .value = count});
  launch(device_, "first_non_finite", over_elements(count), FirstNonFiniteArgs{.count = count, .x = x, .index = index});
  unsigned long long found;
  device_.read(&found, index, sizeof found);
  return found;
}

// Blocks of a warp, so that few leaves are spread over many multiprocessors.
void CudaOps::leaf_hashes(const float* x, size_t count, size_t leaf, uint8_t* hashes) {
  if (leaf == 0 || leaf >= 1u << 27) throw std::invalid_argument("leaf hashes: a leaf of 1 to 2^27 - 1 floats");
  if (count == 0) return;
  constexpr size_t hash_bytes = 32;
  const size_t leaves = ceil_div(count, leaf);
  auto* made = static_cast<uint8_t*>(scratch(leaves * hash_bytes));
  const Shape shape{.grid = {blocks_for(leaves, warp_lanes), 1, 1}, .block = {warp_lanes, 1, 1}};
  launch(device_, "leaf_hashes", shape,
         LeafHashesArgs{.count = count, .x = x, .hashes = made, .leaf = narrow(leaf), .padding = 0});
  device_.read(hashes, made, leaves * hash_bytes);
}

// In parts, for which there is room without asking the device for memory.
void CudaOps::encode(const Encode& op) {
  if (op.count == 0) return;
  if (op.codec == Codec::fp32) return device_.read(op.digits, op.x, digit_bytes(op.codec, op.count));
  const char* const kernel = op.codec == Codec::int4 ? "encode_int4" : "encode_int8";
  for (size_t first = 0; first < op.count; first += encoded_part) {
    const size_t count = std::min(encoded_part, op.count - first);
    const size_t scales = scale_bytes(op.codec, count), digits = digit_bytes(op.codec, count);
    auto* const made = static_cast<uint8_t*>(chunk_sums_.get());
    launch(device_, kernel, warp_per_row(ceil_div(count, codec_block)),
           EncodeArgs{
               .count = count, .x = op.x + first, .scales = reinterpret_cast<float*>(made), .digits = made + scales});
    device_.read(op.scales + scale_bytes(op.codec, first), made, scales);
    device_.read(op.digits + digit_bytes(op.codec, first), made + scales, digits);
  }
}

}  // namespace kernels::cuda
