// Threads in calls that do not return (fake_cuda.h), until the test lets them.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <thread>

namespace fakes {

class HeldThreads {
 public:
  // For FakeCuda::stuck.
  std::function<void()> hold() const {
    return [state = state_] {
      static thread_local AtEnd at_end;
      if (!at_end.state) ++state->held;
      at_end.state = state;
      state->go.wait();
    };
  }
  // Their calls return, late. How many there were; they have ended, or do not within 5 seconds: -1.
  int let_go() {
    state_->promise.set_value();
    for (int i = 0; i < 5000 && state_->ended < state_->held; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return state_->ended == state_->held ? state_->held.load() : -1;
  }

 private:
  struct State {
    std::promise<void> promise;
    const std::shared_future<void> go = promise.get_future().share();
    std::atomic<int> held = 0, ended = 0;
  };
  struct AtEnd {
    ~AtEnd() {
      if (state) ++state->ended;
    }
    std::shared_ptr<State> state;
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace fakes
