// What a unit gives, on its way into its blob (docs/protocol.md section 6).
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "kernels/ops.h"
#include "kernels/training.h"
#include "protocol/blob.h"

namespace agent {

// Values come in pieces, each encoded by the operations in whose memory it lies: from a card only scales and digits go
// to the host.
class UnitBlob {
 public:
  // count: of all values. Throws std::bad_alloc.
  UnitBlob(protocol::BlobKind kind, protocol::CodecId codec, size_t count);

  size_t count() const { return count_; }
  // Values from `first` on, a multiple of kernels::codec_block. Other threads may put other pieces at the same time.
  // Throws what ops throws; restart() then.
  void put(size_t first, std::span<const float> values, kernels::Ops& ops);
  // All values, in pieces. Throws kernels::Cancelled.
  void put_all(std::span<const float> values, kernels::Ops& ops, const kernels::Cancel& cancel);
  // All pieces come anew.
  void restart() { first_non_finite_ = count_; }

  // When every value was put: the first that is not finite, or count(), and, where it is count(), the blob.
  size_t first_non_finite() const { return first_non_finite_; }
  std::vector<uint8_t> take() { return std::move(bytes_); }

 private:
  const kernels::Codec codec_;
  const size_t count_;
  std::vector<uint8_t> bytes_;
  std::mutex mutex_;  // over what follows
  size_t first_non_finite_;
};

}  // namespace agent
