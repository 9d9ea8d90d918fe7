#include "rig.h"

#include <algorithm>
#include <functional>
#include <span>
#include <utility>

#include "engine.h"
#include "files.h"
#include "self_test.h"
#include "unit_refused.h"

namespace agent {
namespace {

constexpr double seconds_after_a_shortage = 30;

std::string gigaflops(double flops) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GFLOP/s", flops / 1e9);
  return text;
}

double sum_of_flops(std::span<const std::shared_ptr<LaneWorker>> cards) {
  double flops = 0;
  for (const auto& card : cards) flops += card->figures().flops;
  return flops;
}

}  // namespace

void Rig::prepare(UnitRunner& cpu) {
  if (!untried_.empty() && world_.clock.monotonic() >= try_at_) try_cards();
  if (ready_) return;
  if (!on_cards()) try_cpu(cpu);
  ready_ = true;
}

// What has failed stays out until the agent starts anew; what lacked only memory, or a thread, is tried again.
void Rig::try_cards() {
  for (const RigCard& card : std::exchange(untried_, {})) {
    if (world_.stop.requested()) throw kernels::Cancelled();  // one that hangs takes its time
    try {
      const auto worker = std::make_shared<LaneWorker>(card.name, card.make_ops, card.unit);
      UnitRunner alone(world_.make_ops);
      alone.use_cards({worker});
      self_test_card(alone, [this] { return world_.stop.requested(); });
      worker->free_buffers();
      const double flops = worker->measure().flops;
      add_idle({worker});
      world_.log.write(Level::good, "self_test", card.name + ": self-test passed (" + gigaflops(flops) + ")",
                       {{"engine", "cuda"}, {"card", card.name}, {"flops", flops}});
      warn_if_slow(card, flops);
    } catch (const kernels::Cancelled&) {
      throw;
    } catch (const kernels::CudaOutOfMemory& error) {
      try_later(card, error.what());
    } catch (const UnitRefused& error) {  // there is no plan that its free memory suffices for
      try_later(card, error.what());
    } catch (const std::bad_alloc&) {
      try_later(card, "the host is out of memory");
    } catch (const std::system_error& error) {
      try_later(card, system_failure(error).what());
    } catch (const std::exception& error) {
      left_out(card.name, error.what());
    }
  }
}

// The log says so once: it may be for long.
void Rig::try_later(const RigCard& card, const std::string& lack) {
  untried_.push_back(card);
  try_at_ = world_.clock.monotonic() + seconds_after_a_shortage;
  if (!short_.insert(card.name).second) return;
  world_.log.write(Level::warning, "card_short",
                   card.name + " does not compute yet: " + lack + "; it is tried again every 30 s",
                   {{"card", card.name}, {"reason", lack}});
}

// Some mining cards (CMP) multiply and add in one step at a fraction of the rate that their cores would give.
void Rig::warn_if_slow(const RigCard& card, double flops) {
  constexpr double least_share = 0.25;
  if (flops >= least_share * card.peak_flops) return;
  world_.log.write(Level::warning, "slow_card",
                   card.name + " computes " + gigaflops(flops) + ", its cores would give " +
                       gigaflops(card.peak_flops) + ": its multiply-add is throttled, or something slows it down",
                   {{"card", card.name}, {"flops", flops}, {"peak_flops", card.peak_flops}});
}

void Rig::try_cpu(UnitRunner& cpu) {
  self_test(cpu, [this] { return world_.stop.requested(); });
  cpu_flops_ = measure_flops(cpu.ops());
  world_.log.write(Level::good, "self_test",
                   "self-test passed (" + cpu.ops().name() + ", " + gigaflops(cpu_flops_) + ")",
                   {{"engine", cpu.ops().name()}, {"flops", cpu_flops_}});
}

// So the pool, which is told of the largest, gives units that it can take, and cards of a kind share a unit.
void Rig::add_idle(const UnitRunner::Cards& cards) {
  idle_.insert(idle_.end(), cards.begin(), cards.end());
  std::ranges::stable_sort(idle_, std::greater(),
                           [](const auto& card) { return std::pair(card->figures().bytes, card->figures().flops); });
}

size_t Rig::lend(UnitRunner& runner, uint64_t most) {
  const auto count = static_cast<size_t>(std::min<uint64_t>(most, idle_.size()));
  const auto end = idle_.begin() + static_cast<std::ptrdiff_t>(count);
  for (auto card = idle_.begin(); card != end; ++card) health_.begin((*card)->name());
  runner.use_cards(
      {idle_.begin(), end}, [this](const std::string& card, const std::string& why) { left_out(card, why); },
      [this](const std::string& why) { links_failed(why); },
      [this](const std::string& card, const std::string& why) { short_of_memory(card, why); });
  idle_.erase(idle_.begin(), end);
  lent_ += count;
  return count;
}

void Rig::take_back(UnitRunner& runner, size_t count) {
  if (count == 0) return;
  for (const auto& card : runner.cards()) health_.end(card->name());
  add_idle(runner.cards());
  runner.use_cards({});
  lent_ -= count;
  ready_ = on_cards();
}

double Rig::flops(const UnitRunner& runner) const { return on_cards() ? sum_of_flops(runner.cards()) : cpu_flops_; }

double Rig::idle_flops(uint64_t lanes) const {
  if (!on_cards()) return cpu_flops_;
  return sum_of_flops(std::span(idle_).first(std::min<uint64_t>(lanes, idle_.size())));
}

void Rig::free_buffers() {
  for (const auto& card : idle_) {
    sets_->close(*card);
    card->free_buffers();
  }
}

void Rig::links_failed(const std::string& why) {
  world_.log.write(Level::warning, "nccl_failed",
                   why + "; from now on the results of these cards together pass through the host's memory",
                   {{"reason", why}});
}

void Rig::short_of_memory(const std::string& card, const std::string& why) {
  world_.log.write(Level::warning, "card_short",
                   card + " is short of memory: " + why + "; it goes on with a smaller plan, or with other units",
                   {{"card", card}, {"reason", why}});
}

void Rig::left_out(const std::string& card, const std::string& why) {
  health_.end(card);
  world_.log.write(Level::error, "card_left_out", card + " is left out: " + why, {{"card", card}, {"reason", why}});
}

}  // namespace agent
