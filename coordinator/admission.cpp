#include "admission.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/codec.h"
#include "protocol/blob.h"

namespace pool {
namespace {

using protocol::Error;
using protocol::ErrorCode;

constexpr size_t segment = 4096;  // of a row sum
constexpr size_t block = 64;      // of int4 and int8

uint64_t block_count(const protocol::JobDescription& d) {
  const uint64_t rows_per_block = (1024 + d.context - 1) / d.context;
  return (d.evaluate_rows + rows_per_block - 1) / rows_per_block;
}

void admit_losses(const Job& job, const protocol::Submission& submission, std::span<const uint8_t> blob,
                  kernels::Ops& ops) {
  const uint64_t count = block_count(job.description);
  protocol::parse_blob_header(blob, blob.size(), protocol::BlobKind::losses, protocol::CodecId::fp32, count);
  std::vector<float> losses(count);
  std::memcpy(losses.data(), blob.data() + protocol::blob_header_bytes, count * sizeof(float));
  if (ops.first_non_finite(losses.data(), count) != count)
    throw Error(ErrorCode::bad_result, "a block's loss is not finite");
  if (ops.row_sum(losses.data(), count) / static_cast<float>(count) != submission.loss) {
    throw Error(ErrorCode::bad_result, "loss is not the mean of the blocks' losses");
  }
  std::vector<protocol::Digest> segments;
  for (const float& loss : losses) segments.push_back(protocol::segment_digest(std::span(&loss, 1)));
  if (protocol::merkle_root(segments) != submission.segments_root) {
    throw Error(ErrorCode::bad_result, "segments_root is not that of the blocks' losses");
  }
}

}  // namespace

float norm_of_payload(const std::vector<kernels::Parameter>& parameters, protocol::CodecId codec, size_t count,
                      std::span<const uint8_t> payload, kernels::Ops& ops) {
  std::vector<float> window(segment + block), sums;
  for (const kernels::Parameter& parameter : parameters) {
    float total = 0;
    for (size_t first = parameter.offset; first < parameter.offset + parameter.count; first += segment) {
      const size_t n = std::min(segment, parameter.offset + parameter.count - first);
      const size_t skip = first % block;  // decoding begins at a block
      const std::span<float> values(window.data(), skip + n);
      kernels::decode(static_cast<kernels::Codec>(codec), payload, count, first - skip, values);
      if (ops.first_non_finite(values.data() + skip, n) != n) {
        throw std::invalid_argument(parameter.name + " has a value that is not finite");
      }
      const kernels::TensorEnd part{.end = n};
      float sum = 0;
      ops.sums_of_squares(&part, 1, values.data() + skip, &sum);
      total = total + sum;
    }
    sums.push_back(total);
  }
  const float norm = std::sqrt(ops.row_sum(sums.data(), sums.size()));
  // Or one key's result could make the outer step overflow. With a finite norm no element is beyond 2^64, and the mean
  // of however many units is far from the end of fp32.
  if (!std::isfinite(norm)) throw std::invalid_argument("the norm of the values is not finite");
  return norm;
}

float admit_result(const Job& job, const UnitRow& unit, const protocol::Submission& submission,
                   std::span<const uint8_t> blob, kernels::Ops& ops) {
  if (submission.tokens != unit.tokens) {
    throw Error(ErrorCode::bad_result, "tokens must be " + std::to_string(unit.tokens) + " for " + unit.name);
  }
  if (unit.kind == protocol::UnitKind::evaluate) {
    admit_losses(job, submission, blob, ops);
    return 0;
  }
  const protocol::CodecId codec = protocol::codec_from_name(job.description.codec);
  const uint64_t count = job.description.parameters;
  protocol::parse_blob_header(blob, blob.size(), protocol::BlobKind::result, codec, count);
  try {
    return norm_of_payload(job.parameters, codec, count, blob.subspan(protocol::blob_header_bytes), ops);
  } catch (const std::invalid_argument& error) {
    throw Error(ErrorCode::bad_result, error.what());
  }
}

}  // namespace pool
