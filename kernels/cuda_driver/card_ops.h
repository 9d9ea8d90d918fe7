// A card as an Ops.
#pragma once

#include <chrono>
#include <memory>

#include "cuda_driver/cublaslt_products.h"
#include "cuda_driver/device.h"
#include "cuda_host/cuda_ops.h"

namespace kernels::cuda {

// cuBLASLt on a card with tensor cores, and for what it is used there: `fast`, and int8 where it is faster. Nothing
// where it is not found or does not start.
struct CardLibrary {
  CardLibrary(const Driver& driver, Device& device, Int8Arithmetic int8, HalfPrecision half, const CardNews& news);

  std::unique_ptr<CublasLtProducts> products;
  ByLibrary use;
};

struct OpenCard {
  OpenCard(const CudaCard& card, std::chrono::milliseconds timeout, const CardNews& news);

  const Driver driver;
  Device device;
  const Int8Arithmetic int8;
  const HalfPrecision half;
  const CardLibrary library;
};

// Declared in this order, the card outlives the operations.
class CardOps final : private OpenCard, public CudaOps {
 public:
  CardOps(const CudaCard& card, std::chrono::milliseconds timeout, const CardNews& news);

  OpenCard& card() { return *this; }
};

}  // namespace kernels::cuda
