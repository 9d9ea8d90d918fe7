#include "aggregate.h"

#include <algorithm>
#include <cstring>

#include "kernels/files.h"
#include "protocol/blob.h"
#include "protocol/plan.h"

namespace pool {
namespace {

constexpr size_t chunk_elements = 1 << 16;  // a multiple of the codecs' block of 64

// Fills an encoded blob chunk by chunk: all scales lie before all digits.
class UpdateEncoder {
 public:
  UpdateEncoder(kernels::Codec codec, size_t count)
      : codec_(codec), count_(count), payload_(kernels::encoded_bytes(codec, count)) {}

  // Encodes elements from `first` on; decoded: what a rig will read.
  void encode(size_t first, std::span<const float> values, std::span<float> decoded) {
    chunk_.resize(kernels::encoded_bytes(codec_, values.size()));
    kernels::encode(codec_, values, chunk_);
    kernels::decode(codec_, chunk_, values.size(), 0, decoded);
    const size_t scales = kernels::scale_bytes(codec_, values.size());
    uint8_t* all_digits = payload_.data() + kernels::scale_bytes(codec_, count_);
    std::memcpy(payload_.data() + kernels::scale_bytes(codec_, first), chunk_.data(), scales);
    std::memcpy(all_digits + kernels::digit_bytes(codec_, first), chunk_.data() + scales, chunk_.size() - scales);
  }

  StagedFile write(const std::filesystem::path& file) const {
    const protocol::BlobHeader header =
        protocol::make_blob_header(protocol::BlobKind::update, static_cast<protocol::CodecId>(codec_), count_);
    StagedWriter writer(file);
    writer.write(std::span(reinterpret_cast<const uint8_t*>(&header), sizeof header));
    writer.write(std::span<const uint8_t>(payload_));
    return writer.finish();
  }

 private:
  kernels::Codec codec_;
  size_t count_;
  std::vector<uint8_t> payload_, chunk_;
};

// The outer optimiser's step over elements [first, first + g.size()).
class OuterStep {
 public:
  OuterStep(const Job& job, uint64_t round, kernels::Ops& ops)
      : job_(job), ops_(ops), adamw_(job.description.outer.name == "adamw") {
    if (adamw_) {
      numbers_ = protocol::outer_numbers(job.description.outer, round);
    } else {
      rate_ = protocol::outer_rate(job.description.outer, round);
    }
  }
  bool has_variance() const { return adamw_; }

  void apply(size_t first, std::span<const float> g, float* w, float* m, float* v) {
    if (!adamw_) {
      ops_.nesterov({.count = g.size(),
                     .lr = rate_,
                     .momentum = static_cast<float>(job_.description.outer.momentum),
                     .g = g.data(),
                     .w = w,
                     .m = m});
      return;
    }
    // Whether an element decays is its tensor's matter.
    std::vector<kernels::TensorEnd> tensors;
    for (const kernels::Parameter& p : job_.parameters) {
      const size_t end = std::min(first + g.size(), p.offset + p.count);
      if (std::max(first, p.offset) < end) tensors.push_back({.end = end - first, .decays = p.decays()});
    }
    const protocol::AdamWStepNumbers& step = numbers_.steps.at(0);
    ops_.adamw({.tensor_count = tensors.size(),
                .tensors = tensors.data(),
                .beta1 = numbers_.beta1,
                .one_minus_beta1 = numbers_.one_minus_beta1,
                .beta2 = numbers_.beta2,
                .one_minus_beta2 = numbers_.one_minus_beta2,
                .epsilon = numbers_.epsilon,
                .decay = step.decay,
                .step_size = step.step_size,
                .inv_sqrt_bc2 = step.inv_sqrt_bc2,
                .g = g.data(),
                .w = w,
                .m = m,
                .v = v});
  }

 private:
  const Job& job_;
  kernels::Ops& ops_;
  bool adamw_;
  float rate_ = 0;
  protocol::InnerAdamW numbers_;
};

// c_u: 1, or what brings the result's norm down to the job's limit.
float clip_factor(float norm, float limit) {
  if (limit <= 0) return 1;
  const float d = norm + 1e-6f;
  return d > limit ? limit / d : 1;
}

void copy_or_zero(std::span<const float> source, size_t first, std::vector<float>& out) {
  if (source.empty()) {
    std::fill(out.begin(), out.end(), 0.0f);
  } else {
    std::copy_n(source.begin() + static_cast<std::ptrdiff_t>(first), out.size(), out.begin());
  }
}

protocol::Digest digest_of_files(std::initializer_list<const StagedFile*> files) {
  protocol::Sha256 hash;
  for (const StagedFile* file : files) {
    if (file) hash.update(MappedFile(file->path()).bytes());
  }
  return hash.finish();
}

}  // namespace

kernels::Codec codec_of(const Job& job) {
  return static_cast<kernels::Codec>(protocol::codec_from_name(job.description.codec));
}

RoundOutputs aggregate(const Job& job, uint64_t round, const RoundInputs& inputs, kernels::Ops& ops,
                       const std::function<std::filesystem::path()>& temporary_path) {
  const kernels::Codec codec = codec_of(job);
  const size_t parameters = job.description.parameters;
  const auto lanes = static_cast<float>(job.lanes_per_round());
  OuterStep outer(job, round, ops);
  UpdateEncoder update(codec, parameters);
  StagedWriter weights(temporary_path()), momentum(temporary_path()), residual(temporary_path());
  std::optional<StagedWriter> variance;
  if (outer.has_variance()) variance.emplace(temporary_path());
  const std::string header = kernels::safetensors_header(job.model);
  weights.write(std::span(reinterpret_cast<const uint8_t*>(header.data()), header.size()));

  std::vector<float> sum, decoded, w, m, v, e, d;
  for (size_t first = 0; first < parameters; first += chunk_elements) {
    const size_t n = std::min(chunk_elements, parameters - first);
    for (std::vector<float>* buffer : {&sum, &decoded, &w, &m, &v, &e, &d}) buffer->resize(n);

    std::fill(sum.begin(), sum.end(), 0.0f);
    for (const RoundInputs::Unit& unit : inputs.units) {
      kernels::decode(codec, unit.payload, parameters, first, decoded);
      const float factor = clip_factor(unit.norm, static_cast<float>(job.description.clip_norm));
      if (factor != 1) ops.scale(factor, decoded.data(), n);
      ops.add(decoded.data(), sum.data(), n);
    }
    for (float& g : sum) g = g / lanes;

    const std::span<const float> old = inputs.weights.subspan(first, n);
    copy_or_zero(inputs.weights, first, w);
    copy_or_zero(inputs.momentum, first, m);
    copy_or_zero(inputs.variance, first, v);
    copy_or_zero(inputs.residual, first, e);
    outer.apply(first, sum, w.data(), m.data(), v.data());

    ops.subtract(w.data(), old.data(), d.data(), n);
    ops.add(e.data(), d.data(), n);
    if (ops.first_non_finite(d.data(), n) != n)
      throw NotFinite("the outer step of round " + std::to_string(round) + " overflowed");
    update.encode(first, d, decoded);
    ops.subtract(d.data(), decoded.data(), e.data(), n);
    std::copy(old.begin(), old.end(), w.begin());
    ops.add(decoded.data(), w.data(), n);
    if (ops.first_non_finite(w.data(), n) != n)
      throw NotFinite("the weights after round " + std::to_string(round) + " overflowed");

    weights.write(std::span<const float>(w));
    momentum.write(std::span<const float>(m));
    if (variance) variance->write(std::span<const float>(v));
    residual.write(std::span<const float>(e));
  }

  std::optional<StagedFile> staged_variance;
  if (variance) staged_variance.emplace(variance->finish());
  RoundOutputs outputs{weights.finish(), update.write(temporary_path()), momentum.finish(), std::move(staged_variance),
                       residual.finish()};
  outputs.state =
      digest_of_files({&outputs.momentum, outputs.variance ? &*outputs.variance : nullptr, &outputs.residual});
  return outputs;
}

}  // namespace pool
