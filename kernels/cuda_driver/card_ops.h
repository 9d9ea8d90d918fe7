// A card as an Ops.
#pragma once

#include <chrono>

#include "cuda_driver/device.h"
#include "cuda_host/cuda_ops.h"

namespace kernels::cuda {

struct OpenCard {
  OpenCard(const CudaCard& card, std::chrono::milliseconds timeout);

  const Driver driver;
  Device device;
};

// Declared in this order, the card outlives the operations.
class CardOps final : private OpenCard, public CudaOps {
 public:
  CardOps(const CudaCard& card, std::chrono::milliseconds timeout);

  OpenCard& card() { return *this; }
};

}  // namespace kernels::cuda
