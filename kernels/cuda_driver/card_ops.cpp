// A card as an Ops.
#include "cuda_driver/code.h"
#include "cuda_driver/device.h"
#include "cuda_host/cuda_ops.h"
#include "cuda_host/half_precision.h"

namespace kernels {
namespace {

struct OpenCard {
  OpenCard(const CudaCard& card, std::chrono::milliseconds timeout)
      : device(driver, card, cuda::code_for({card.major, card.minor}), timeout) {}

  const cuda::Driver driver;
  cuda::Device device;
};

// Declared in this order, the card outlives the operations.
class CardOps final : private OpenCard, public cuda::CudaOps {
 public:
  CardOps(const CudaCard& card, std::chrono::milliseconds timeout)
      : OpenCard(card, timeout),
        CudaOps(OpenCard::device, cuda::choose_int8_arithmetic(OpenCard::device),
                cuda::choose_half_precision(OpenCard::device)) {}
};

}  // namespace

std::unique_ptr<Ops> make_cuda_ops(const CudaCard& card, std::chrono::milliseconds timeout) {
  return std::make_unique<CardOps>(card, timeout);
}

}  // namespace kernels
