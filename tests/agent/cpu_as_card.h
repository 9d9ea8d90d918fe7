// What computes like a card, for tests of how lanes are spread: the CPU's engine, which says that its memory is its
// own, and fails when it is told to.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>

#include "kernels/cuda_cards.h"
#include "kernels/forwarding_ops.h"
#include "protocol/digest.h"
#include "unit_runner.h"

namespace agent {

class CpuAsCard : public kernels::ForwardingOps {
 public:
  using BeforeRead = std::function<void(size_t bytes)>;
  // Called before each product, and before each copy to the host; they may throw.
  explicit CpuAsCard(std::function<void()> before, BeforeRead before_read = {})
      : ForwardingOps(kernels::make_cpu_ops(1)), before_(std::move(before)), before_read_(std::move(before_read)) {}
  bool in_host_memory() const override { return false; }
  size_t free_bytes() override { return 6'000'000'000; }
  void leaf_hashes(const float* x, size_t count, size_t leaf, uint8_t* hashes) override {
    for (std::span<const float> rest(x, count); !rest.empty(); hashes += sizeof(protocol::Digest)) {
      const auto values = rest.first(std::min(leaf, rest.size()));
      rest = rest.subspan(values.size());
      protocol::MerkleTree tree;
      tree.add({reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()});
      std::ranges::copy(tree.root(), hashes);
    }
  }
  void matmul(const kernels::Matmul& op) override {
    if (before_) before_();
    inner_->matmul(op);
  }
  void read(void* host, const void* memory, size_t bytes) override {
    if (before_read_) before_read_(bytes);
    inner_->read(host, memory, bytes);
  }
  void encode(const kernels::Encode& op) override {
    if (before_read_) before_read_(kernels::encoded_bytes(op.codec, op.count));
    inner_->encode(op);
  }

 private:
  const std::function<void()> before_;
  const BeforeRead before_read_;
};

inline std::shared_ptr<LaneWorker> cpu_as_card(const std::string& name, std::function<void()> before = {},
                                               CpuAsCard::BeforeRead before_read = {}) {
  return std::make_shared<LaneWorker>(name, [=] { return std::make_unique<CpuAsCard>(before, before_read); });
}

// One that says how much of its memory is free.
inline std::shared_ptr<LaneWorker> sized_card(const std::string& name, std::function<size_t()> free,
                                              std::function<void()> before = {},
                                              CpuAsCard::BeforeRead before_read = {}) {
  class Sized : public CpuAsCard {
   public:
    Sized(std::function<size_t()> free, std::function<void()> before, BeforeRead before_read)
        : CpuAsCard(std::move(before), std::move(before_read)), free_(std::move(free)) {}
    size_t free_bytes() override { return free_(); }

   private:
    const std::function<size_t()> free_;
  };
  return std::make_shared<LaneWorker>(name, [=] { return std::make_unique<Sized>(free, before, before_read); });
}

[[noreturn]] inline void fail_as_card(const std::string& name) {
  throw kernels::CudaError(name + ": cuLaunchKernel: unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED, 719)");
}

[[noreturn]] inline void run_out_as_card(const std::string& name) {
  throw kernels::CudaOutOfMemory(name + ": 4 bytes: cuMemAlloc_v2: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)");
}

}  // namespace agent
