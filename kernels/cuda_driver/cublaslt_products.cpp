#include "cuda_driver/cublaslt_products.h"

#include <utility>

namespace kernels::cuda {

CublasLtProducts::CublasLtProducts(std::unique_ptr<const CublasLt> library, Device& device,
                                   std::function<void(const std::string&)> on_failure)
    : device_(device),
      on_failure_(std::move(on_failure)),
      calls_(std::make_shared<CublasLtCalls>(std::move(library), device.bus_id())) {
  device_.by_library([calls = calls_](DeviceCalls& card) {
    calls->start(card);
    return true;
  });
}

CublasLtProducts::~CublasLtProducts() {
  device_.end_library([calls = calls_](DeviceCalls& card) { calls->end(card); });
}

bool CublasLtProducts::multiply(const LibraryProduct& product) {
  if (failed_) return false;
  try {
    return device_.by_library([calls = calls_, product](DeviceCalls& card) { return calls->multiply(card, product); });
  } catch (const CublasLtError& error) {
    failed_ = true;
    on_failure_(std::string(error.what()) + ", of " + std::to_string(product.m) + " x " + std::to_string(product.n) +
                " x " + std::to_string(product.k));
    return false;
  }
}

}  // namespace kernels::cuda
