// A card's products by cuBLASLt.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cuda_driver/cublaslt_calls.h"
#include "cuda_driver/device.h"
#include "cuda_host/gemm_library.h"

namespace kernels::cuda {

class CublasLtProducts final : public GemmLibrary {
 public:
  // Throws CublasLtError where the library does not start on the card. `device` outlives it. on_failure is told, once,
  // where it fails later.
  CublasLtProducts(std::unique_ptr<const CublasLt> library, Device& device,
                   std::function<void(const std::string&)> on_failure);
  ~CublasLtProducts() override;

  bool multiply(const LibraryProduct& product) override;

  bool has_gelu() const override { return calls_->has_gelu(); }

  // Whether it has failed: it takes nothing any more.
  bool failed() const { return failed_; }

 private:
  Device& device_;
  const std::function<void(const std::string&)> on_failure_;
  const std::shared_ptr<CublasLtCalls> calls_;  // shared with the Device's thread, which may be left behind in one
  bool failed_ = false;
};

}  // namespace kernels::cuda
