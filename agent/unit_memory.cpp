#include "unit_memory.h"

#include <algorithm>
#include <bit>

#include "lane_worker.h"
#include "protocol/blob.h"

namespace agent {
namespace {

// In the host's memory, besides trainers: weights, tokens, the result's encoding, and `sums` of lanes or their results.
uint64_t bytes_besides_trainers(const protocol::Unit& unit, const kernels::ModelConfig& config, uint64_t workers,
                                uint64_t sums) {
  const uint64_t weights = kernels::parameter_count(config) * sizeof(float);
  const uint64_t rows = workers * unit.batch * (unit.context + 1) * sizeof(uint16_t);
  if (unit.kind == protocol::UnitKind::evaluate) return weights + rows;
  const uint64_t blob = protocol::blob_header_bytes + protocol::payload_bytes(protocol::codec_from_name(unit.codec),
                                                                              kernels::parameter_count(config));
  return weights + rows + sums * weights + blob;
}

uint64_t tree_depth(uint64_t lanes) { return static_cast<uint64_t>(std::bit_width(lanes - 1)); }

}  // namespace

uint64_t lanes_of(const protocol::Unit& unit) { return unit.kind == protocol::UnitKind::evaluate ? 1 : unit.lanes; }

uint64_t tree_sums(uint64_t lanes, uint64_t added, uint64_t workers) {
  return std::min(added, workers * tree_depth(lanes));
}

uint64_t host_bytes_on_cpu(const protocol::Unit& unit, const kernels::ModelConfig& config) {
  return bytes_besides_trainers(unit, config, 1, 1 + tree_sums(unit.lanes, unit.lanes, 1));
}

// As if no card had room for its own sums. A card's last lane stays on it until all are added, in pieces: two from each
// card, and in LaneTree::part() one for each level of the tree, one more, and their sum. Of the lanes before it, one is
// on its way at a time.
uint64_t host_bytes_on_cards(const protocol::Unit& unit, const kernels::ModelConfig& config, uint64_t cards) {
  const uint64_t before = lanes_of(unit) - cards;
  const uint64_t sums = before == 0 ? 0 : 1 + tree_sums(unit.lanes, before, cards);
  const uint64_t piece = std::min<uint64_t>(piece_values, kernels::parameter_count(config)) * sizeof(float);
  const uint64_t pieces = 2 * cards + tree_depth(lanes_of(unit)) + 2;
  return bytes_besides_trainers(unit, config, cards, sums) + pieces * piece;
}

}  // namespace agent
