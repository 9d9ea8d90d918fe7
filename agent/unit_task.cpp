#include "unit_task.h"

#include <algorithm>
#include <cmath>

#include "unit_refused.h"

namespace agent {

UnitTask::UnitTask(protocol::Lease lease, PoolClient& heartbeat_client, const Clock& clock, const Stop& stop)
    : lease_(std::move(lease)),
      clock_(clock),
      stop_(stop),
      heartbeat_(heartbeat_client, lease_.lease, lease_.renew_s, [this] { return progress_.load(); }) {}

UnitTask::~UnitTask() {
  abandon();
  if (thread_.joinable()) thread_.join();
}

void UnitTask::start(UnitRunner& runner, UnitInputs inputs, double seconds,
                     std::function<void(uint64_t tokens)> on_tokens, std::function<void()> on_end) {
  inputs_ = std::move(inputs);
  thread_ = std::thread([this, &runner, seconds, on_tokens = std::move(on_tokens), on_end = std::move(on_end)] {
    try {
      compute(runner, seconds, on_tokens);
    } catch (...) {
      error_ = std::current_exception();
    }
    ended_ = true;
    on_end();
  });
}

void UnitTask::compute(UnitRunner& runner, double seconds, const std::function<void(uint64_t)>& on_tokens) {
  const double begin = clock_.monotonic();
  bool overdue = false;  // a pool can mislead the estimate
  const kernels::Cancel cancel = [&] {
    overdue = overdue || clock_.monotonic() - begin > seconds;
    return overdue || cancelled();
  };
  const ReadTokens read_tokens = [&](size_t shard, uint64_t first, std::span<uint16_t> out) {
    inputs_->shards->read(shard, first, out);
  };
  uint64_t done = 0;
  const OnProgress on_progress = [&](uint64_t tokens) {
    if (tokens > done) on_tokens(tokens - done);
    done = std::max(done, tokens);
    progress_ = static_cast<double>(done) / static_cast<double>(unit().tokens);
  };
  try {
    result_ = runner.run(unit(), inputs_->config, inputs_->plan, *inputs_->weights, read_tokens, on_progress, cancel);
  } catch (const kernels::Cancelled&) {
    if (!overdue) throw;
    throw UnitRefused("takes more than " + std::to_string(std::llround(seconds)) + " s, twice this rig's limit");
  }
}

bool UnitTask::lost_its_cards() const {
  try {
    if (error_) std::rethrow_exception(error_);
  } catch (const NoCardLeft&) {
    return true;
  } catch (...) {
    return false;
  }
  return false;
}

void UnitTask::reset() {
  thread_.join();
  inputs_.reset();
  error_ = nullptr;
  ended_ = false;
}

UnitResult UnitTask::result() {
  if (error_) std::rethrow_exception(error_);
  return std::move(result_);
}

}  // namespace agent
