#include "exchange_schedule.h"

#include <algorithm>

#include "kernels/codec.h"
#include "lane_worker.h"

namespace agent {
namespace {

size_t ceil_div(size_t count, size_t by) { return (count + by - 1) / by; }

// In whole blocks, so that a piece can be encoded by itself.
size_t share_of(size_t count, size_t cards) {
  return ceil_div(count, cards * kernels::codec_block) * kernels::codec_block;
}

}  // namespace

size_t ExchangeSchedule::half_for(size_t count, size_t cards, size_t arrays) {
  return std::min(piece_values, arrays * share_of(count, cards));
}

// A card that has a lane needs no place for it.
ExchangeSchedule::ExchangeSchedule(size_t count, size_t cards, std::vector<size_t> holders, size_t host_sums,
                                   size_t half)
    : count_(count), cards_(cards), holders_(std::move(holders)), half_(half) {
  const size_t places = holders_.size() + host_sums - (holders_.size() == cards ? 1 : 0);
  const size_t block = kernels::codec_block;
  piece_ = std::min(share_of(count, cards), half_ / std::max<size_t>(places, 1) / block * block);
}

size_t ExchangeSchedule::steps() const { return ceil_div(count_, cards_ * piece_); }

ExchangeSchedule::Piece ExchangeSchedule::piece(size_t step, size_t owner) const {
  const size_t first = std::min(count_, (step * cards_ + owner) * piece_);
  return {first, std::min(piece_, count_ - first)};
}

std::vector<ExchangeSchedule::Transfer> ExchangeSchedule::transfers(size_t step) const {
  std::vector<Transfer> all;
  for (size_t owner = 0; owner < cards_; ++owner) {
    for (size_t lane = 0; lane < holders_.size(); ++lane) {
      if (holders_[lane] != owner && piece(step, owner).count > 0) all.push_back({lane, owner});
    }
  }
  return all;
}

size_t ExchangeSchedule::place(size_t step, size_t owner, size_t array) const {
  const auto own = std::ranges::find(holders_, owner);
  const bool behind_own = own != holders_.end() && static_cast<size_t>(own - holders_.begin()) < array;
  return step % 2 * half_ + (array - (behind_own ? 1 : 0)) * piece_;
}

}  // namespace agent
