// Links between cards that are the CPU's engine: copies in the host's memory, which fail when they are told to.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <mutex>
#include <set>
#include <vector>

#include "cpu_as_card.h"
#include "kernels/card_links.h"

namespace agent {

// What the links of a test did, and what they are told to do. Several threads may link, and use links of their own.
struct Seen {
  std::atomic<int> linked = 0, alive = 0, most_alive = 0, given_up = 0;
  std::atomic<size_t> floats = 0, groups = 0;
  std::atomic<int> fail_to_link = 0;                       // so often
  std::atomic<int> fail_in_start = -1, fail_in_wait = -1;  // the call of that number
  std::function<void()> before_end;                        // of links

  std::mutex mutex;
  std::set<kernels::Ops*> cards;  // that have links
};

class CopyingLinks : public kernels::CardLinks {
 public:
  CopyingLinks(Seen& seen, std::span<kernels::Ops* const> cards) : seen_(seen), cards_(cards.begin(), cards.end()) {
    const std::lock_guard lock(seen_.mutex);
    for (kernels::Ops* card : cards_) EXPECT_TRUE(seen_.cards.insert(card).second) << "it has links already";
    ++seen_.linked;
    seen_.most_alive = std::max<int>(++seen_.alive, seen_.most_alive);
  }
  ~CopyingLinks() override {
    if (seen_.before_end) seen_.before_end();
    const std::lock_guard lock(seen_.mutex);
    for (kernels::Ops* card : cards_) seen_.cards.erase(card);
    --seen_.alive;
  }

  void start(std::span<const Transfer> transfers) override {
    EXPECT_TRUE(on_their_way_.empty()) << "no wait() for the ones before";
    if (seen_.fail_in_start-- == 0) fail_as_card("ncclSend");
    on_their_way_.assign(transfers.begin(), transfers.end());
    ++seen_.groups;
  }
  void wait() override {
    if (seen_.fail_in_wait-- == 0) fail_as_card("ncclRecv");
    for (const Transfer& transfer : on_their_way_) {
      EXPECT_NE(transfer.from, transfer.to);
      std::memcpy(transfer.target, transfer.source, transfer.count * sizeof(float));
      seen_.floats += transfer.count;
    }
    on_their_way_.clear();
  }
  void give_up() override { ++seen_.given_up; }

 private:
  Seen& seen_;
  const std::vector<kernels::Ops*> cards_;
  std::vector<Transfer> on_their_way_;
};

inline kernels::MakeCardLinks copying_links(Seen& seen) {
  return [&seen](std::span<kernels::Ops* const> cards, const kernels::Cancel&) {
    if (seen.fail_to_link-- > 0) fail_as_card("ncclCommInitAll");
    return std::make_unique<CopyingLinks>(seen, cards);
  };
}

}  // namespace agent
