// Which cards of the rig pass results to each other: NCCL's links belong to a set of cards, and stay from unit to unit,
// wherever these work together. A card is in at most one set, so it never keeps the memory of two.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/card_links.h"
#include "lane_worker.h"

namespace agent {

// Cards that are linked.
struct CardSet {
  std::vector<std::shared_ptr<LaneWorker>> cards;  // as numbered in the links, which they outlive
  std::vector<uint64_t> bytes;                     // of each card's memory that was gone when they were linked
  std::unique_ptr<kernels::CardLinks> links;       // null: they are ending

  bool has(const LaneWorker& card) const;
};

// A card's own failure, which was seen when it was to be linked. A card tells of it only once.
struct CardFailed : std::runtime_error {
  CardFailed(LaneWorker& failed, const std::string& what) : std::runtime_error(what), card(failed) {}
  LaneWorker& card;
};

// Used by any thread, each for cards that nobody else uses: so no set is closed while something passes in it.
class CardSets {
 public:
  using Cards = std::vector<std::shared_ptr<LaneWorker>>;

  explicit CardSets(kernels::MakeCardLinks make_links = kernels::make_nccl_links)
      : make_links_(std::move(make_links)) {}

  // The set of exactly these cards; if there is none, other sets with one of them are closed, what the cards hold is
  // lost, since links take their memory first, and they are linked. Null where they do without, or there is no NCCL.
  // Throws kernels::CudaError where that fails, and from then on they do without; CardFailed where one of them had
  // failed before; kernels::Cancelled.
  std::shared_ptr<CardSet> link(const Cards& cards, const kernels::Cancel& cancel);
  // From now on these cards are not linked as a set; as parts of others they are.
  void do_without(const Cards& cards);

  // Of the card's memory, what its links have taken, as seen when they were made. Who uses another of their cards may
  // end them at any time: so a plan with this figure that lacks memory is made again after close().
  uint64_t bytes_on(const LaneWorker& card) const;
  // Ends the set that the card is in, and gives its memory on all of its cards back; where another thread is at that,
  // waits for it. False where the card is in none.
  bool close(const LaneWorker& card);
  // The same where the card, or the links, have failed: nothing is waited for.
  void give_up(const LaneWorker& card);

 private:
  std::shared_ptr<CardSet> make(const Cards& cards, const kernels::Cancel& cancel) const;
  // With the mutex:
  std::shared_ptr<CardSet> set_of(const LaneWorker& card) const;
  void end(const std::shared_ptr<CardSet>& set, std::unique_lock<std::mutex>& lock);

  const kernels::MakeCardLinks make_links_;
  mutable std::mutex mutex_;  // over what follows
  std::vector<std::shared_ptr<CardSet>> sets_;
  std::condition_variable ended_;                                // one of the sets
  std::vector<std::vector<std::weak_ptr<LaneWorker>>> without_;  // weak: a card that is left out gives its memory back
};

}  // namespace agent
