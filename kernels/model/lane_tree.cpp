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
  insert(lane, values.data(), nullptr);
}

void LaneTree::add(size_t lane, Values&& values) {
  const float* const same = values.get();
  insert(lane, same, std::move(values));
}

LaneTree::Values LaneTree::room() const {
  return {static_cast<float*>(ops_.allocate(count_ * sizeof(float))),
          [&ops = ops_](float* memory) { ops.free(memory); }};
}

// own: the values' memory where it may be kept, else null; on the way up, the node's sum.
void LaneTree::insert(size_t lane, const float* values, Values own) {
  if (lane >= lanes_ || added_[lane]) throw std::logic_error("lane tree: a lane that was added or does not exist");
  added_[lane] = true;
  Node node{lane, 1};
  while (node.lanes < lanes_) {
    const Node above = parent(node);
    const auto [left, right] = halves(above);
    const Node other = node == left ? right : left;
    const auto waiting = std::find_if(sums_.begin(), sums_.end(), [&](const Sum& sum) { return sum.node == other; });
    if (waiting == sums_.end()) break;
    ops_.add(own ? own.get() : values, waiting->values.get(), count_);
    own = std::move(waiting->values);
    sums_.erase(waiting);
    node = above;
  }
  if (!own) {
    own = room();
    ops_.copy(own.get(), values, count_ * sizeof(float));
  }
  sums_.push_back({node, std::move(own)});
}

std::vector<LaneTree::Term> LaneTree::terms() const {
  std::vector<Term> terms;
  append_terms({0, lanes_}, terms);
  return terms;
}

void LaneTree::append_terms(Node node, std::vector<Term>& terms) const {
  const auto known = std::find_if(sums_.begin(), sums_.end(), [&](const Sum& sum) { return sum.node == node; });
  if (known != sums_.end()) {
    terms.push_back({Term::Kind::held, static_cast<size_t>(known - sums_.begin())});
  } else if (node.lanes == 1) {
    terms.push_back({Term::Kind::lane, node.first});
  } else {
    const auto [left, right] = halves(node);
    append_terms(left, terms);
    append_terms(right, terms);
    terms.push_back({Term::Kind::add});
  }
}

void LaneTree::part(size_t first, std::span<float> out, const PartOfLane& that_of) const {
  std::vector<std::vector<float>> stack;
  for (const Term& term : terms()) {
    if (term.kind == Term::Kind::add) {
      ops_.add(stack.back().data(), stack.end()[-2].data(), out.size());
      stack.pop_back();
    } else {
      const std::span<const float> values =
          term.kind == Term::Kind::lane ? that_of(term.number) : held(term.number).subspan(first, out.size());
      stack.emplace_back(values.begin(), values.end());
    }
  }
  std::ranges::copy(stack.front(), out.begin());
}

std::span<const float> LaneTree::sum() const {
  if (sums_.size() != 1 || sums_.front().node.lanes != lanes_) throw std::logic_error("lane tree: lanes are missing");
  return held(0);
}

}  // namespace kernels
