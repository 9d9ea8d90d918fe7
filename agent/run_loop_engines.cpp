// What the loop computes with: the rig's cards, each of which shows first that it computes right; without any, the CPU.
#include "engine.h"
#include "run_loop.h"
#include "self_test.h"
#include "system_info.h"

namespace agent {
namespace {

std::string gigaflops(double flops) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GFLOP/s", flops / 1e9);
  return text;
}

}  // namespace

void RunLoop::prepare_engines() {
  if (engines_ready_) return;
  prepare_cards();
  if (runner_.cards().empty()) prepare_cpu();
  engines_ready_ = true;
  last_work_ = world_.clock.monotonic();
}

// A card is tried once; what has failed stays out until the agent starts anew.
void RunLoop::prepare_cards() {
  UnitRunner::Cards cards;
  for (const RigCard& card : std::exchange(untried_cards_, {})) {
    try {
      const auto worker = std::make_shared<LaneWorker>(card.name, card.make_ops);
      UnitRunner alone(world_.make_ops);
      alone.use_cards({worker});
      self_test_card(alone, [this] { return world_.stop.requested(); });
      worker->free_buffers();
      const double flops = worker->measure().flops;
      cards.push_back(worker);
      world_.log.write(Level::good, "self_test", card.name + ": self-test passed (" + gigaflops(flops) + ")",
                       {{"engine", "cuda"}, {"card", card.name}, {"flops", flops}});
      warn_if_slow(card, flops);
    } catch (const kernels::Cancelled&) {
      throw;
    } catch (const std::exception& error) {
      card_left_out(card.name, error.what());
    }
  }
  runner_.use_cards(
      std::move(cards), [this](const std::string& card, const std::string& what) { card_left_out(card, what); },
      [this](const std::string& what) {
        world_.log.write(Level::warning, "nccl_failed", what + "; from now on results pass through the host's memory",
                         {{"reason", what}});
      });
  if (!runner_.cards().empty()) flops_ = speed();
}

// Some mining cards (CMP) multiply and add in one step at a fraction of the rate that their cores would give.
void RunLoop::warn_if_slow(const RigCard& card, double flops) {
  constexpr double least_share = 0.25;
  if (flops >= least_share * card.peak_flops) return;
  world_.log.write(Level::warning, "slow_card",
                   card.name + " computes " + gigaflops(flops) + ", its cores would give " +
                       gigaflops(card.peak_flops) + ": its multiply-add is throttled, or something slows it down",
                   {{"card", card.name}, {"flops", flops}, {"peak_flops", card.peak_flops}});
}

void RunLoop::prepare_cpu() {
  self_test(runner_, [this] { return world_.stop.requested(); });
  flops_ = measure_flops(runner_.ops());
  world_.log.write(Level::good, "self_test",
                   "self-test passed (" + runner_.ops().name() + ", " + gigaflops(flops_) + ")",
                   {{"engine", runner_.ops().name()}, {"flops", flops_}});
}

// As measured at the start.
double RunLoop::speed() {
  if (runner_.cards().empty()) return measure_flops(runner_.ops());
  double flops = 0;
  for (const auto& card : runner_.cards()) flops += card->figures().flops;
  return flops;
}

// For the pool: a unit's weights and results lie on the card as well. Of the cards, the largest counts.
uint64_t RunLoop::memory_on_offer() const {
  if (runner_.cards().empty()) return memory_for_units(memory_available());
  uint64_t bytes = 0;
  for (const auto& card : runner_.cards()) bytes = std::max(bytes, card->figures().bytes);
  return bytes;
}

void RunLoop::card_left_out(const std::string& card, const std::string& why) {
  world_.log.write(Level::error, "card_left_out", card + " is left out: " + why, {{"card", card}, {"reason", why}});
}

}  // namespace agent
