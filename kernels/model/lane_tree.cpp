// The canonical tree over lanes, docs/numerics.md section 6: complete subtrees of 1, 2, 4, … lanes wait on a stack.
#include <stdexcept>

#include "kernels/training.h"

namespace kernels {

LaneTree::LaneTree(size_t lanes, size_t count, Ops& ops) : lanes_(lanes), count_(count), ops_(ops) {
  if (lanes == 0) throw std::invalid_argument("lane tree: no lanes");
}

void LaneTree::add(std::span<const float> lane) {
  if (lane.size() != count_) throw std::invalid_argument("lane tree: a lane of another size");
  if (next_ == lanes_) throw std::logic_error("lane tree: more lanes than announced");
  ++next_;
  if (stack_.empty() || stack_.back().lanes != 1) {
    stack_.push_back({1, {lane.begin(), lane.end()}});
  } else {
    ops_.add(lane.data(), stack_.back().values.data(), count_);
    stack_.back().lanes = 2;
  }
  while (stack_.size() >= 2 && stack_[stack_.size() - 2].lanes == stack_.back().lanes) join_last_two();
  if (next_ == lanes_)
    while (stack_.size() >= 2) join_last_two();
}

void LaneTree::join_last_two() {
  Partial& left = stack_[stack_.size() - 2];
  ops_.add(stack_.back().values.data(), left.values.data(), count_);
  left.lanes += stack_.back().lanes;
  stack_.pop_back();
}

std::span<const float> LaneTree::sum() const {
  if (next_ != lanes_) throw std::logic_error("lane tree: lanes are missing");
  return stack_.front().values;
}

}  // namespace kernels
