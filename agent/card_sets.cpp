#include "card_sets.h"

#include <algorithm>

#include "kernels/cuda_cards.h"

namespace agent {
namespace {

// Cards come back to the rig in any order. Either's pointers may be weak.
bool same_set(const auto& a, const auto& b) {
  return std::ranges::is_permutation(
      a, b, [](const auto& x, const auto& y) { return !x.owner_before(y) && !y.owner_before(x); });
}

}  // namespace

bool CardSet::has(const LaneWorker& card) const {
  return std::ranges::count(cards, &card, [](const auto& each) { return each.get(); }) > 0;
}

std::shared_ptr<CardSet> CardSets::link(const Cards& cards, const kernels::Cancel& cancel) {
  {
    const std::lock_guard lock(mutex_);
    if (std::ranges::any_of(without_, [&](const auto& each) { return same_set(each, cards); })) return nullptr;
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
    try {
      card->free_buffers();
      ops.push_back(&card->ops());
      set->bytes.push_back(ops.back()->free_bytes());
    } catch (const kernels::CudaError& error) {
      throw CardFailed(*card, error.what());
    }
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
  without_.emplace_back(cards.begin(), cards.end());
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

std::shared_ptr<CardSet> CardSets::set_of(const LaneWorker& card) const {
  const auto found = std::ranges::find_if(sets_, [&](const auto& set) { return set->has(card); });
  return found == sets_.end() ? nullptr : *found;
}

// This takes long, so not under the mutex: units on other cards wait for nothing. Until then the set is one that
// counts, since it has its memory.
void CardSets::end(const std::shared_ptr<CardSet>& set, std::unique_lock<std::mutex>& lock) {
  std::unique_ptr<kernels::CardLinks> links = std::move(set->links);
  lock.unlock();
  links.reset();
  lock.lock();
  std::erase(sets_, set);
  ended_.notify_all();
}

// Who ends a set waits for no other, so nobody waits in a circle.
bool CardSets::close(const LaneWorker& card) {
  std::unique_lock lock(mutex_);
  const std::shared_ptr<CardSet> set = set_of(card);
  if (!set) return false;
  if (set->links) {
    end(set, lock);
  } else {
    ended_.wait(lock, [&] { return std::ranges::count(sets_, set) == 0; });
  }
  return true;
}

void CardSets::give_up(const LaneWorker& card) {
  std::unique_lock lock(mutex_);
  const std::shared_ptr<CardSet> set = set_of(card);
  if (!set || !set->links) return;
  set->links->give_up();
  end(set, lock);
}

}  // namespace agent
