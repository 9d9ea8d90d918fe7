#include "lane_exchange.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "exchange_schedule.h"
#include "kernels/cuda_cards.h"

namespace agent {
namespace {

// One unit's lanes over the links.
class Exchange {
 public:
  Exchange(const CardSet& set, const kernels::LaneTree& tree, std::span<const HeldLane> lanes, UnitBlob& sum)
      : links_(*set.links),
        cards_(set.cards),
        tree_(tree),
        terms_(tree.terms()),
        lanes_(lanes),
        sum_(sum),
        holders_(holders()),
        schedule_(sum.count(), cards_.size(), holders_, tree.held_sums(),
                  ExchangeSchedule::half_for(sum.count(), cards_.size(), lanes.size() + tree.held_sums())) {}

  // The pieces of a step are on their way while those of the one before are added and encoded.
  void run(const kernels::Cancel& cancel) {
    for (size_t step = 0; step <= schedule_.steps(); ++step) {
      if (cancel()) throw kernels::Cancelled();
      const bool passes = step < schedule_.steps();
      if (passes) links_.start(transfers(step));
      if (step > 0) on_each_card([&](size_t card) { add(step - 1, card); });
      if (passes) links_.wait();
    }
  }

 private:
  std::vector<size_t> holders() const {
    std::vector<size_t> cards;
    for (const HeldLane& lane : lanes_) {
      const auto card = std::ranges::find(cards_, lane.worker, [](const auto& worker) { return worker.get(); });
      cards.push_back(static_cast<size_t>(card - cards_.begin()));
    }
    return cards;
  }

  std::vector<kernels::CardLinks::Transfer> transfers(size_t step) const {
    std::vector<kernels::CardLinks::Transfer> all;
    for (const auto& [lane, owner] : schedule_.transfers(step)) {
      const ExchangeSchedule::Piece piece = schedule_.piece(step, owner);
      all.push_back({holders_[lane], owner, lanes_[lane].worker->result().data() + piece.first,
                     place(step, owner, lane), piece.count});
    }
    return all;
  }

  float* place(size_t step, size_t owner, size_t array) const {
    return cards_[owner]->exchange_buffer() + schedule_.place(step, owner, array);
  }

  // Each in a thread of its own; rethrows what the first of them throws.
  void on_each_card(const std::function<void(size_t card)>& body) const {
    std::vector<std::exception_ptr> errors(cards_.size());
    {
      std::vector<std::jthread> threads;
      for (size_t card = 0; card < cards_.size(); ++card) {
        threads.emplace_back([&, card] {
          try {
            body(card);
          } catch (...) {
            errors[card] = std::current_exception();
          }
        });
      }
    }
    for (const std::exception_ptr& error : errors) {
      if (error) std::rethrow_exception(error);
    }
  }

  // In an owner's memory.
  struct Values {
    const float* read;
    float* write;  // null: only to be read
  };
  using Term = kernels::LaneTree::Term;

  // The owner's piece of what the host holds, or of a lane. Its own lane is only read: the host may yet need it.
  Values piece_of(const Term& term, size_t step, size_t owner) const {
    const auto [first, count] = schedule_.piece(step, owner);
    if (term.kind == Term::Kind::held) {
      float* const here = place(step, owner, lanes_.size() + term.number);
      cards_[owner]->ops().write(here, tree_.held(term.number).data() + first, count * sizeof(float));
      return {here, here};
    }
    const auto held = std::ranges::find(lanes_, term.number, &HeldLane::lane);
    const auto lane = static_cast<size_t>(held - lanes_.begin());
    if (holders_[lane] == owner) return {held->worker->result().data() + first, nullptr};
    float* const here = place(step, owner, lane);
    return {here, here};
  }

  // The owner's piece, in the order of the tree, which it encodes.
  void add(size_t step, size_t owner) const {
    const auto [first, count] = schedule_.piece(step, owner);
    if (count == 0) return;
    kernels::Ops& ops = cards_[owner]->ops();
    std::vector<Values> stack;
    for (const Term& term : terms_) {
      if (term.kind == Term::Kind::add) {
        Values right = stack.back();
        stack.pop_back();
        if (stack.back().write == nullptr) std::swap(stack.back(), right);  // a + b is b + a, to the bit
        ops.add(right.read, stack.back().write, count);
      } else {
        stack.push_back(piece_of(term, step, owner));
      }
    }
    sum_.put(first, {stack.front().read, count}, ops);
  }

  kernels::CardLinks& links_;
  const CardSets::Cards& cards_;
  const kernels::LaneTree& tree_;
  const std::vector<Term> terms_;
  const std::span<const HeldLane> lanes_;
  UnitBlob& sum_;
  const std::vector<size_t> holders_;  // of each lane, the card's place in cards_
  const ExchangeSchedule schedule_;
};

}  // namespace

void LaneExchange::link(const CardSets::Cards& cards, const kernels::Cancel& cancel, const OnFailed& on_failed) {
  if (cards.size() < 2) return;
  try {
    set_ = sets_.link(cards, cancel);
  } catch (const kernels::CudaError& error) {
    on_failed(error.what());
  }
}

size_t LaneExchange::buffer_values(size_t count, size_t lanes) const {
  return set_ ? 2 * ExchangeSchedule::half_for(count, set_->cards.size(), lanes) : 0;
}

bool LaneExchange::unlink(const LaneWorker& card, const std::string& lacks, const OnFailed& on_failed) {
  if (set_ && set_->has(card)) {
    const std::shared_ptr<CardSet> own = std::exchange(set_, nullptr);
    sets_.do_without(own->cards);
    std::string names;
    for (const auto& each : own->cards) names += (names.empty() ? "" : ", ") + each->name();
    on_failed(names + ": NCCL's memory is needed: " + lacks);
  }
  return sets_.close(card);
}

void LaneExchange::card_failed(const LaneWorker& card) {
  if (set_ && set_->has(card)) set_.reset();
  sets_.give_up(card);
}

bool LaneExchange::can_pass(std::span<const HeldLane> lanes) const {
  return set_ && std::ranges::all_of(lanes, [&](const HeldLane& lane) { return set_->has(*lane.worker); }) &&
         std::ranges::all_of(set_->cards, [](const auto& card) { return card->exchange_buffer() != nullptr; });
}

bool LaneExchange::sum(const kernels::LaneTree& tree, std::span<HeldLane> lanes, UnitBlob& sum,
                       const kernels::Cancel& cancel, const OnFailed& on_failed) {
  std::string failure;
  CardSets::Cards failed;
  try {
    if (can_pass(lanes)) {
      Exchange(*set_, tree, lanes, sum).run(cancel);
      return true;
    }
  } catch (const kernels::Cancelled&) {
    throw;
  } catch (const kernels::CudaError& error) {
    failure = error.what();
    failed = give_up();
  } catch (...) {
    give_up();
    throw;
  }
  sum.restart();  // a card that has failed may have said anything of its pieces
  const bool complete = sum_held_lanes(tree, lanes, sum, cancel);
  if (complete && !failed.empty()) {  // else it was a card, which is told of
    sets_.do_without(failed);
    on_failed(failure);
  }
  return complete;
}

// Nothing passes over these links any more. Returns whose they were.
CardSets::Cards LaneExchange::give_up() {
  const std::shared_ptr<CardSet> set = std::exchange(set_, nullptr);
  sets_.give_up(*set->cards.front());
  return set->cards;
}

}  // namespace agent
