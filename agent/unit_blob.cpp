#include "unit_blob.h"

#include <algorithm>
#include <cstring>

#include "lane_worker.h"

namespace agent {

static_assert(piece_values % kernels::codec_block == 0, "pieces are encoded by themselves");

UnitBlob::UnitBlob(protocol::BlobKind kind, protocol::CodecId codec, size_t count)
    : codec_(static_cast<kernels::Codec>(codec)), count_(count), first_non_finite_(count) {
  const protocol::BlobHeader header = protocol::make_blob_header(kind, codec, count);
  bytes_.resize(sizeof header + header.payload_bytes);
  std::memcpy(bytes_.data(), &header, sizeof header);
}

void UnitBlob::put(size_t first, std::span<const float> values, kernels::Ops& ops) {
  const size_t bad = ops.first_non_finite(values.data(), values.size());
  if (bad < values.size()) {
    const std::lock_guard lock(mutex_);
    first_non_finite_ = std::min(first_non_finite_, first + bad);
    return;
  }
  uint8_t* const scales = bytes_.data() + protocol::blob_header_bytes;
  uint8_t* const digits = scales + kernels::scale_bytes(codec_, count_);
  ops.encode({.codec = codec_,
              .count = values.size(),
              .x = values.data(),
              .scales = scales + kernels::scale_bytes(codec_, first),
              .digits = digits + kernels::digit_bytes(codec_, first)});
}

void UnitBlob::put_all(std::span<const float> values, kernels::Ops& ops, const kernels::Cancel& cancel) {
  for (size_t first = 0; first < count_; first += piece_values) {
    if (cancel()) throw kernels::Cancelled();
    put(first, values.subspan(first, std::min(piece_values, count_ - first)), ops);
  }
}

}  // namespace agent
