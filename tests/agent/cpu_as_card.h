// What computes like a card, for tests of how lanes are spread: the CPU's engine, which fails when it is told to.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/cuda_cards.h"
#include "kernels/forwarding_ops.h"
#include "unit_runner.h"

namespace agent {

class CpuAsCard : public kernels::ForwardingOps {
 public:
  // before: called before each product; it may throw.
  explicit CpuAsCard(std::function<void()> before)
      : ForwardingOps(kernels::make_cpu_ops(1)), before_(std::move(before)) {}
  size_t free_bytes() override { return 6'000'000'000; }
  void matmul(const kernels::Matmul& op) override {
    if (before_) before_();
    inner_->matmul(op);
  }

 private:
  const std::function<void()> before_;
};

inline std::shared_ptr<LaneWorker> cpu_as_card(const std::string& name, std::function<void()> before = {}) {
  return std::make_shared<LaneWorker>(name, [before] { return std::make_unique<CpuAsCard>(before); });
}

[[noreturn]] inline void fail_as_card(const std::string& name) {
  throw kernels::CudaError(name + ": cuLaunchKernel: unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED, 719)");
}

}  // namespace agent
