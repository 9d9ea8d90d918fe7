// How lanes that cards hold at the end of a unit become one sum. Two ways with the same bits: the cards pass pieces to
// each other (kernels/card_links.h), and each adds and encodes all lanes of those that it owns; or every lane passes
// through the host's memory (lane_sum.h), where cards are not linked, or no longer.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "card_sets.h"
#include "lane_sum.h"

namespace agent {

// Of one unit. One thread at a time.
class LaneExchange {
 public:
  // what: one line with the call and the cards, which from then on do without links. Called at most once.
  using OnFailed = std::function<void(const std::string& what)>;

  // sets outlive the exchange.
  explicit LaneExchange(CardSets& sets) : sets_(sets) {}

  // Before the cards have buffers: these will compute the unit's lanes. Throws kernels::Cancelled, CardFailed.
  void link(const CardSets::Cards& cards, const kernels::Cancel& cancel, const OnFailed& on_failed);
  // Floats that each linked card needs for exchanging a unit's lanes; 0 without links.
  size_t buffer_values(size_t count, size_t lanes) const;
  // A card lacks memory for the unit: links give back what they took of it. lacks: one line that says so. False where
  // there were none.
  bool unlink(const LaneWorker& card, const std::string& lacks, const OnFailed& on_failed);
  // Nothing passes over its links any more.
  void card_failed(const LaneWorker& card);

  // As sum_held_lanes().
  bool sum(const kernels::LaneTree& tree, std::span<HeldLane> lanes, UnitBlob& sum, const kernels::Cancel& cancel,
           const OnFailed& on_failed);

 private:
  bool can_pass(std::span<const HeldLane> lanes) const;
  CardSets::Cards give_up();

  CardSets& sets_;
  std::shared_ptr<CardSet> set_;  // of the unit's cards; null: without links, or no longer
};

}  // namespace agent
