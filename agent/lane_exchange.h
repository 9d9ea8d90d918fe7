// How lanes that cards hold at the end of a unit become one sum. Two ways with the same bits: the cards pass pieces to
// each other (kernels/card_links.h), and each adds all lanes of those that it owns; or every lane passes through the
// host's memory (lane_sum.h), where cards are not linked, or no longer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/card_links.h"
#include "lane_sum.h"

namespace agent {

// One thread at a time.
class LaneExchange {
 public:
  using Cards = std::vector<std::shared_ptr<LaneWorker>>;
  // what: one line with the call and the cards. Called at most once: links that have failed are not made again.
  using OnFailed = std::function<void(const std::string& what)>;

  explicit LaneExchange(kernels::MakeCardLinks make_links) : make_links_(std::move(make_links)) {}

  // Before a unit, whose lanes these cards will compute: links them, if they are not yet, and lets others go. What the
  // cards hold is lost then, since links take their memory first. Throws kernels::Cancelled.
  void link(const Cards& cards, const kernels::Cancel& cancel, const OnFailed& on_failed);
  // Floats that each linked card needs for exchanging a unit's lanes; 0 without links.
  size_t buffer_values(size_t count, size_t lanes) const;

  // As sum_held_lanes().
  bool sum(const kernels::LaneTree& tree, std::span<HeldLane> lanes, std::span<float> sum,
           const kernels::Cancel& cancel, const OnFailed& on_failed);

  // Gives the links' memory back, until they are made again.
  void free_links();
  // A card has failed: nothing passes over these links any more. The next link() makes others.
  void give_up();
  // The cards need the links' memory for themselves, now and later. False where there were none.
  bool unlink();

 private:
  bool can_pass(std::span<const HeldLane> lanes) const;
  void fail(const std::string& what, const OnFailed& on_failed);

  const kernels::MakeCardLinks make_links_;
  bool usable_ = true;  // else there are none, or they have failed
  Cards cards_;         // linked, or tried; they outlive the links
  std::unique_ptr<kernels::CardLinks> links_;
};

}  // namespace agent
