// The schedule, acted out by cards that are none. A transfer is a send and a receive in one group of NCCL's
// (nccl_links.cpp), whose stand-in ends a program that gives it one without the other (tests/fakes/fake_nccl.h).
#include "exchange_schedule.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>

#include "kernels/codec.h"
#include "lane_worker.h"

namespace agent {
namespace {

using kernels::codec_block;

struct Shape {
  size_t count, cards;
  std::vector<size_t> holders;
  size_t host_sums;
};

using Transfers = std::vector<std::vector<ExchangeSchedule::Transfer>>;  // step by step

Transfers transfers_of(const ExchangeSchedule& schedule) {
  Transfers all;
  for (size_t step = 0; step < schedule.steps(); ++step) all.push_back(schedule.transfers(step));
  return all;
}

// What goes wrong, or nothing.
std::string act(const Shape& shape, const ExchangeSchedule& schedule, const Transfers& transfers, size_t half) {
  std::vector<size_t> reached(shape.count *
                              shape.holders.size());  // how often each element of a lane gets to its owner
  for (size_t step = 0; step < transfers.size(); ++step) {
    std::map<size_t, std::set<size_t>> taken;  // floats of each card's buffer
    for (const auto& [lane, owner] : transfers[step]) {
      if (lane >= shape.holders.size() || owner >= shape.cards) return "somebody who is not there";
      if (shape.holders[lane] == owner) return "a card sends to itself";
      const auto [first, count] = schedule.piece(step, owner);
      if (count == 0 || first + count > shape.count) return "a piece that is none";
      if (first % codec_block != 0) return "a piece that cuts a block of the encoding";
      const size_t place = schedule.place(step, owner, lane);
      if (place < step % 2 * half || place + count > (step % 2 + 1) * half) return "outside its half of the buffer";
      for (size_t i = 0; i < count; ++i) {
        ++reached[(first + i) * shape.holders.size() + lane];
        if (!taken[owner].insert(place + i).second) return "two pieces in one place";
      }
    }
    for (size_t owner = 0; owner < shape.cards; ++owner) {
      const auto [first, count] = schedule.piece(step, owner);
      for (size_t sum = 0; sum < shape.host_sums && count > 0; ++sum) {
        const size_t place = schedule.place(step, owner, shape.holders.size() + sum);
        if (place < step % 2 * half || place + count > (step % 2 + 1) * half) return "a sum outside the buffer";
        for (size_t i = 0; i < count; ++i) {
          if (!taken[owner].insert(place + i).second) return "a sum in a lane's place";
        }
      }
      for (size_t lane = 0; lane < shape.holders.size(); ++lane) {
        if (shape.holders[lane] != owner) continue;
        for (size_t i = 0; i < count; ++i) ++reached[(first + i) * shape.holders.size() + lane];
      }
    }
  }
  for (const size_t times : reached) {
    if (times != 1) return times == 0 ? "an element does not reach its owner" : "an element comes twice";
  }
  return "";
}

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (size_t cards = 1; cards <= 12; ++cards) {
    for (const size_t count : {size_t{1}, size_t{5}, size_t{12}, size_t{1000}, size_t{4099}}) {
      for (const size_t host_sums : {0, 1, 3}) {
        std::vector<size_t> holders(cards);
        std::iota(holders.begin(), holders.end(), size_t{0});
        all.push_back({count, cards, holders, host_sums});
        std::reverse(holders.begin(), holders.end());  // lanes in another order than cards
        holders.pop_back();                            // and a card without
        if (!holders.empty()) all.push_back({count, cards, holders, host_sums});
      }
    }
  }
  return all;
}

TEST(ExchangeSchedule, EveryPieceOfEveryLaneReachesItsOwnerOnce) {
  for (const Shape& shape : shapes()) {
    const size_t arrays = shape.holders.size() + shape.host_sums;
    for (const size_t half : {ExchangeSchedule::half_for(shape.count, shape.cards, arrays), 3 * codec_block * arrays,
                              codec_block * arrays}) {
      const ExchangeSchedule schedule(shape.count, shape.cards, shape.holders, shape.host_sums, half);
      EXPECT_EQ(act(shape, schedule, transfers_of(schedule), half), "")
          << shape.count << " elements, " << shape.cards << " cards, " << shape.holders.size() << " lanes, "
          << shape.host_sums << " sums, " << half << " floats";
    }
  }
}

TEST(ExchangeSchedule, ASmallResultIsSharedByAllCardsInOneStep) {
  constexpr size_t count = 11 * codec_block + 1;
  const ExchangeSchedule schedule(count, 12, {0, 1, 2, 3}, 0, ExchangeSchedule::half_for(count, 12, 4));
  EXPECT_EQ(schedule.steps(), 1u);
  EXPECT_EQ(schedule.piece(0, 10).count, codec_block);
  EXPECT_EQ(schedule.piece(0, 11).count, 1u);
}

TEST(ExchangeSchedule, ALargeResultNeedsNoMoreThanTwoPieces) {
  constexpr size_t gpt2 = 124'439'808;
  for (size_t cards = 2; cards <= 12; ++cards) {
    const size_t half = ExchangeSchedule::half_for(gpt2, cards, 12);
    EXPECT_EQ(half, piece_values);
    std::vector<size_t> holders(cards);
    std::iota(holders.begin(), holders.end(), size_t{0});
    const ExchangeSchedule schedule(gpt2, cards, holders, 12 - cards, half);
    const size_t last = schedule.place(1, 0, 11) + schedule.piece(1, 0).count;
    EXPECT_LE(last, 2 * half);
    EXPECT_GT(last, 2 * half - 12 * codec_block) << "and uses them";
  }
}

// Each card sends and receives as much as any other, but for what is left at the end.
TEST(ExchangeSchedule, TheLoadIsEven) {
  const ExchangeSchedule schedule(180 * codec_block, 6, {0, 1, 2, 3, 4, 5}, 0, 16 * codec_block);
  std::map<size_t, size_t> sent, received;
  for (size_t step = 0; step < schedule.steps(); ++step) {
    for (const auto& [lane, owner] : schedule.transfers(step)) {
      sent[lane] += schedule.piece(step, owner).count;
      received[owner] += schedule.piece(step, owner).count;
    }
  }
  for (size_t card = 0; card < 6; ++card) {
    EXPECT_EQ(sent[card], 150 * codec_block) << card;
    EXPECT_EQ(received[card], 150 * codec_block) << card;
  }
}

// Else the first test would not see a mistake.
TEST(ExchangeSchedule, WrongSchedulesAreSeen) {
  const Shape shape{2000, 3, {0, 1, 2}, 1};
  const size_t half = 6 * codec_block;
  const ExchangeSchedule schedule(shape.count, shape.cards, shape.holders, shape.host_sums, half);
  const Transfers good = transfers_of(schedule);
  ASSERT_GT(good.size(), 3u);
  Transfers wrong = good;
  wrong[1].pop_back();
  EXPECT_EQ(act(shape, schedule, wrong, half), "an element does not reach its owner");
  wrong = good;
  wrong[1].push_back(wrong[1].front());
  EXPECT_EQ(act(shape, schedule, wrong, half), "two pieces in one place");
  wrong = good;
  wrong[1].front().owner = shape.holders[wrong[1].front().lane];
  EXPECT_EQ(act(shape, schedule, wrong, half), "a card sends to itself");
  wrong = good;
  std::swap(wrong[0], wrong.back());
  EXPECT_NE(act(shape, schedule, wrong, half), "");
  const ExchangeSchedule too_large(shape.count, shape.cards, shape.holders, shape.host_sums, half + 3 * codec_block);
  EXPECT_EQ(act(shape, too_large, transfers_of(too_large), half), "a sum outside the buffer");
}

}  // namespace
}  // namespace agent
