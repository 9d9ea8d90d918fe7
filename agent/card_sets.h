// Which cards of the rig pass results to each other: NCCL's links belong to a set of cards, and stay from unit to unit,
// wherever these work together. A card is in at most one set, so it never keeps the memory of two.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "kernels/card_links.h"
#include "lane_worker.h"

namespace agent {

// Cards that are linked.
struct CardSet {
  std::vector<std::shared_ptr<LaneWorker>> cards;  // as numbered in the links, which they outlive
  std::vector<uint64_t> bytes;                     // of each card's memory that was gone when they were linked
  std::unique_ptr<kernels::CardLinks> links;

  bool has(const LaneWorker& card) const;
};

// Used by any thread, each for cards that nobody else uses: so no set is closed while something passes in it.
class CardSets {
 public:
  using Cards = std::vector<std::shared_ptr<LaneWorker>>;

  explicit CardSets(kernels::MakeCardLinks make_links = kernels::make_nccl_links)
      : make_links_(std::move(make_links)) {}

  // The set of exactly these cards; if there is none, other sets with one of them are closed, what the cards hold is
  // lost, since links take their memory first, and they are linked. Null where they do without, or there is no NCCL.
  // Throws kernels::CudaError where that fails, and from then on they do without; kernels::Cancelled.
  std::shared_ptr<CardSet> link(const Cards& cards, const kernels::Cancel& cancel);
  // From now on these cards are not linked as a set; as parts of others they are.
  void do_without(const Cards& cards);

  // Of the card's memory, what its links have taken, as seen when they were made.
  uint64_t bytes_on(const LaneWorker& card) const;
  // Ends the set that the card is in, and gives its memory on all of its cards back. False where it is in none.
  bool close(const LaneWorker& card);
  // The same where the card, or the links, have failed: nothing is waited for.
  void give_up(const LaneWorker& card);

 private:
  std::shared_ptr<CardSet> make(const Cards& cards, const kernels::Cancel& cancel) const;
  std::shared_ptr<CardSet> take_out(const LaneWorker& card);

  const kernels::MakeCardLinks make_links_;
  mutable std::mutex mutex_;  // over what follows
  std::vector<std::shared_ptr<CardSet>> sets_;
  std::vector<Cards> without_;
};

}  // namespace agent
