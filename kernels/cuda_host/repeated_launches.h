// Operations that come again and again, kept as one recording of the device.
#pragma once

#include <memory>

#include "cuda_host/launch.h"
#include "kernels/ops.h"

namespace kernels::cuda {

// The first run queues the operations as ever: kernels are found, libraries choose their algorithms. The second is
// recorded, and from then on the recording is queued. Where the device cannot record them they are queued as ever.
class RepeatedLaunches final : public RepeatedOperations {
 public:
  explicit RepeatedLaunches(std::unique_ptr<Recording> recording) : recording_(std::move(recording)) {}

  void run(const std::function<void()>& operations) override;

 private:
  enum class State { never_run, run_once, recorded, given_up };

  bool record(const std::function<void()>& operations);

  const std::unique_ptr<Recording> recording_;
  State state_ = State::never_run;
};

}  // namespace kernels::cuda
