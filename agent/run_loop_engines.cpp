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
  cards_flops_ = 0, cards_memory_ = 0;
  for (const RigCard& card : std::exchange(untried_cards_, {})) {
    try {
      const auto worker = std::make_shared<LaneWorker>(card.name, card.make_ops);
      UnitRunner alone(world_.make_ops);
      alone.use_cards({worker});
      self_test_card(alone, [this] { return world_.stop.requested(); });
      worker->free_buffers();
      const double flops = measure_flops(worker->ops());
      cards_flops_ += flops;
      cards_memory_ = std::max(cards_memory_, plannable_bytes(worker->ops()));
      cards.push_back(worker);
      world_.log.write(Level::good, "self_test", card.name + ": self-test passed (" + gigaflops(flops) + ")",
                       {{"engine", "cuda"}, {"card", card.name}, {"flops", flops}});
    } catch (const kernels::Cancelled&) {
      throw;
    } catch (const std::exception& error) {
      card_left_out(card.name, error.what());
    }
  }
  flops_ = cards_flops_;
  runner_.use_cards(std::move(cards),
                    [this](const std::string& card, const std::string& what) { card_left_out(card, what); });
}

void RunLoop::prepare_cpu() {
  self_test(runner_, [this] { return world_.stop.requested(); });
  flops_ = measure_flops(runner_.ops());
  world_.log.write(Level::good, "self_test",
                   "self-test passed (" + runner_.ops().name() + ", " + gigaflops(flops_) + ")",
                   {{"engine", runner_.ops().name()}, {"flops", flops_}});
}

double RunLoop::speed() { return runner_.cards().empty() ? measure_flops(runner_.ops()) : cards_flops_; }

// For the pool: a unit's weights and results lie on the card as well.
uint64_t RunLoop::memory_on_offer() {
  return runner_.cards().empty() ? memory_for_units(memory_available()) : cards_memory_;
}

void RunLoop::card_left_out(const std::string& card, const std::string& why) {
  world_.log.write(Level::error, "card_left_out", card + " is left out: " + why, {{"card", card}, {"reason", why}});
}

}  // namespace agent
