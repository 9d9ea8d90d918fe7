#include "cuda_driver/card_ops.h"

#include "cuda_driver/code.h"
#include "cuda_host/half_precision.h"

namespace kernels {

cuda::OpenCard::OpenCard(const CudaCard& card, std::chrono::milliseconds timeout)
    : driver(open_driver(timeout)), device(driver, card, code_for({card.major, card.minor}), timeout) {}

cuda::CardOps::CardOps(const CudaCard& card, std::chrono::milliseconds timeout)
    : OpenCard(card, timeout),
      CudaOps(OpenCard::device, choose_int8_arithmetic(OpenCard::device), choose_half_precision(OpenCard::device)) {}

std::unique_ptr<Ops> make_cuda_ops(const CudaCard& card, std::chrono::milliseconds timeout) {
  return std::make_unique<cuda::CardOps>(card, timeout);
}

}  // namespace kernels
