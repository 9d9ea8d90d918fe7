// A card as an Ops.
#include "cuda_driver/code.h"
#include "cuda_driver/device.h"
#include "cuda_host/cuda_ops.h"

namespace kernels {
namespace {

struct OpenCard {
  explicit OpenCard(const CudaCard& card) : device(driver, card, cuda::code_for({card.major, card.minor})) {}

  const cuda::Driver driver;
  cuda::Device device;
};

// Declared in this order, the card outlives the operations.
class CardOps final : private OpenCard, public cuda::CudaOps {
 public:
  explicit CardOps(const CudaCard& card)
      : OpenCard(card), CudaOps(OpenCard::device, cuda::choose_int8_arithmetic(OpenCard::device)) {}
};

}  // namespace

std::unique_ptr<Ops> make_cuda_ops(const CudaCard& card) { return std::make_unique<CardOps>(card); }

}  // namespace kernels
