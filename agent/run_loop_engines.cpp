// What the loop computes with: the rig's cards, each of which shows first that it computes right; without any, the CPU.
#include <algorithm>
#include <functional>

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
  if (!on_cards()) prepare_cpu();
  engines_ready_ = true;
  last_work_ = world_.clock.monotonic();
}

// A card is tried once; what has failed stays out until the agent starts anew.
void RunLoop::prepare_cards() {
  for (const RigCard& card : std::exchange(untried_cards_, {})) {
    try {
      const auto worker = std::make_shared<LaneWorker>(card.name, card.make_ops);
      UnitRunner alone(world_.make_ops);
      alone.use_cards({worker});
      self_test_card(alone, [this] { return world_.stop.requested(); });
      worker->free_buffers();
      const double flops = worker->measure().flops;
      add_idle_cards({worker});
      world_.log.write(Level::good, "self_test", card.name + ": self-test passed (" + gigaflops(flops) + ")",
                       {{"engine", "cuda"}, {"card", card.name}, {"flops", flops}});
      warn_if_slow(card, flops);
    } catch (const kernels::Cancelled&) {
      throw;
    } catch (const std::exception& error) {
      card_left_out(card.name, error.what());
    }
  }
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
  UnitRunner& runner = places_[free_place()]->runner;
  self_test(runner, [this] { return world_.stop.requested(); });
  cpu_flops_ = measure_flops(runner.ops());
  world_.log.write(Level::good, "self_test",
                   "self-test passed (" + runner.ops().name() + ", " + gigaflops(cpu_flops_) + ")",
                   {{"engine", runner.ops().name()}, {"flops", cpu_flops_}});
}

bool RunLoop::on_cards() const {
  return !idle_cards_.empty() || std::ranges::any_of(places_, [](const auto& place) { return place->cards > 0; });
}

// Back from a place: those that have not failed. With none left the CPU takes over.
void RunLoop::return_cards(Place& place) {
  if (place.cards == 0) return;
  add_idle_cards(place.runner.cards());
  place.runner.use_cards({});
  place.cards = 0;
  place.held_bytes = 0;  // of the host's memory
  engines_ready_ = on_cards();
}

// Those with most memory first, which the pool is told of. So cards of a kind share a unit.
void RunLoop::add_idle_cards(const UnitRunner::Cards& cards) {
  idle_cards_.insert(idle_cards_.end(), cards.begin(), cards.end());
  std::ranges::stable_sort(idle_cards_, std::greater(),
                           [](const auto& card) { return std::pair(card->figures().bytes, card->figures().flops); });
}

void RunLoop::take_cards(Place& place, uint64_t most) {
  const auto end = idle_cards_.begin() + static_cast<std::ptrdiff_t>(std::min<uint64_t>(most, idle_cards_.size()));
  place.cards = static_cast<size_t>(end - idle_cards_.begin());
  place.runner.use_cards({idle_cards_.begin(), end},
                         [this](const std::string& card, const std::string& what) { card_left_out(card, what); });
  idle_cards_.erase(idle_cards_.begin(), end);
}

// As measured at the start.
double RunLoop::measured_flops(std::span<const std::shared_ptr<LaneWorker>> cards) const {
  if (!on_cards()) return cpu_flops_;
  double flops = 0;
  for (const auto& card : cards) flops += card->figures().flops;
  return flops;
}

// Of what is idle, for the pool.
double RunLoop::flops_on_offer() const {
  const auto cards = std::span(idle_cards_).first(std::min<uint64_t>(lanes_of_a_unit_, idle_cards_.size()));
  return speed_factor_ * measured_flops(cards);
}

// A unit's weights and results lie on the card as well.
uint64_t RunLoop::memory_on_offer() {
  if (on_cards()) return idle_cards_.front()->figures().bytes;
  return memory_for_units(*places_[free_place()]);
}

void RunLoop::free_buffers() {
  for (const auto& card : idle_cards_) card->free_buffers();
  for (const auto& place : places_) {
    if (place->task) continue;
    place->runner.free_buffers();
    place->held_bytes = 0;
  }
}

void RunLoop::card_left_out(const std::string& card, const std::string& why) {
  world_.log.write(Level::error, "card_left_out", card + " is left out: " + why, {{"card", card}, {"reason", why}});
}

}  // namespace agent
