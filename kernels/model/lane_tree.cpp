// The canonical tree over lanes, docs/numerics.md section 6: what is complete waits for its other half.
#include <algorithm>
#include <bit>
#include <stdexcept>

#include "kernels/training.h"

namespace kernels {

LaneTree::LaneTree(size_t lanes, size_t count, Ops& ops) : lanes_(lanes), count_(count), ops_(ops), added_(lanes) {
  if (lanes == 0) throw std::invalid_argument("lane tree: no lanes");
}

// The left half is the largest power of two below the number of lanes.
LaneTree::Halves LaneTree::halves(Node node) {
  const size_t left = std::bit_floor(node.lanes - 1);
  return {{node.first, left}, {node.first + left, node.lanes - left}};
}

LaneTree::Node LaneTree::parent(Node node) const {
  Node at{0, lanes_};
  for (;;) {
    const auto [left, right] = halves(at);
    if (left == node || right == node) return at;
    at = node.first < right.first ? left : right;
  }
}

// Of two halves it does not matter which is added to which: a + b is b + a, to the bit.
void LaneTree::add(size_t lane, std::span<const float> values) {
  if (values.size() != count_) throw std::invalid_argument("lane tree: a lane of another size");
  if (lane >= lanes_ || added_[lane]) throw std::logic_error("lane tree: a lane that was added or does not exist");
  added_[lane] = true;
  Node node{lane, 1};
  std::vector<float> own;  // the node's sum, once it is not the caller's
  while (node.lanes < lanes_) {
    const Node above = parent(node);
    const auto [left, right] = halves(above);
    const Node other = node == left ? right : left;
    const auto waiting = std::find_if(sums_.begin(), sums_.end(), [&](const Sum& sum) { return sum.node == other; });
    if (waiting == sums_.end()) break;
    ops_.add(own.empty() ? values.data() : own.data(), waiting->values.data(), count_);
    own = std::move(waiting->values);
    sums_.erase(waiting);
    node = above;
  }
  if (node.lanes == 1) own.assign(values.begin(), values.end());
  sums_.push_back({node, std::move(own)});
}

std::span<const float> LaneTree::sum() const {
  if (sums_.size() != 1 || sums_.front().node.lanes != lanes_) throw std::logic_error("lane tree: lanes are missing");
  return sums_.front().values;
}

}  // namespace kernels
