#include "cuda_host/repeated_launches.h"

#include "kernels/training.h"

namespace kernels::cuda {

void RepeatedLaunches::run(const std::function<void()>& operations) {
  if (state_ == State::run_once) {
    state_ = State::given_up;  // unless it succeeds, also where it throws
    if (record(operations)) state_ = State::recorded;
  }
  if (state_ == State::recorded) return recording_->replay();
  operations();
  if (state_ == State::never_run) state_ = State::run_once;
}

// What fails while it is recorded may fail for that reason alone; it fails again where it is queued as ever.
bool RepeatedLaunches::record(const std::function<void()>& operations) {
  if (!recording_->begin()) return false;
  try {
    operations();
  } catch (const Cancelled&) {
    recording_->end();
    throw;
  } catch (const std::exception&) {
    recording_->end();
    return false;
  }
  return recording_->end();
}

}  // namespace kernels::cuda
