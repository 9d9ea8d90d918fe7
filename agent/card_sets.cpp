#include "card_sets.h"

#include <algorithm>

#include "kernels/cuda_cards.h"

namespace agent {
namespace {

// Cards come back to the rig in any order.
bool same_set(const CardSets::Cards& a, const CardSets::Cards& b) { return std::ranges::is_permutation(a, b); }

}  // namespace

bool CardSet::has(const LaneWorker& card) const {
  return std::ranges::count(cards, &card, [](const auto& each) { return each.get(); }) > 0;
}

std::shared_ptr<CardSet> CardSets::link(const Cards& cards, const kernels::Cancel& cancel) {
  {
    const std::lock_guard lock(mutex_);
    if (std::ranges::any_of(without_, [&](const Cards& each) { return same_set(each, cards); })) return nullptr;
    const auto found = std::ranges::find_if(sets_, [&](const auto& set) { return same_set(set->cards, cards); });
    if (found != sets_.end()) return *found;
  }
  for (const auto& card : cards) close(*card);
  std::shared_ptr<CardSet> set;
  try {
    set = make(cards, cancel);
  } catch (const kernels::CudaError&) {
    do_without(cards);
    throw;
  }
  if (!set) {
    do_without(cards);
    return nullptr;
  }
  const std::lock_guard lock(mutex_);
  return sets_.emplace_back(std::move(set));
}

// Without the mutex: this takes long.
std::shared_ptr<CardSet> CardSets::make(const Cards& cards, const kernels::Cancel& cancel) const {
  auto set = std::make_shared<CardSet>();
  set->cards = cards;
  std::vector<kernels::Ops*> ops;
  for (const auto& card : cards) {
    card->free_buffers();
    ops.push_back(&card->ops());
    set->bytes.push_back(ops.back()->free_bytes());
  }
  set->links = make_links_(ops, cancel);
  if (!set->links) return nullptr;
  for (size_t i = 0; i < cards.size(); ++i) {
    const uint64_t before = set->bytes[i];
    set->bytes[i] = before - std::min<uint64_t>(before, ops[i]->free_bytes());
  }
  return set;
}

void CardSets::do_without(const Cards& cards) {
  const std::lock_guard lock(mutex_);
  without_.push_back(cards);
}

uint64_t CardSets::bytes_on(const LaneWorker& card) const {
  const std::lock_guard lock(mutex_);
  for (const auto& set : sets_) {
    for (size_t i = 0; i < set->cards.size(); ++i) {
      if (set->cards[i].get() == &card) return set->bytes[i];
    }
  }
  return 0;
}

// Links end, which takes its time, when their last user lets go of the set: not under the mutex.
std::shared_ptr<CardSet> CardSets::take_out(const LaneWorker& card) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(sets_, [&](const auto& set) { return set->has(card); });
  if (found == sets_.end()) return nullptr;
  std::shared_ptr<CardSet> set = std::move(*found);
  sets_.erase(found);
  return set;
}

bool CardSets::close(const LaneWorker& card) { return take_out(card) != nullptr; }

void CardSets::give_up(const LaneWorker& card) {
  if (const std::shared_ptr<CardSet> set = take_out(card)) set->links->give_up();
}

}  // namespace agent
