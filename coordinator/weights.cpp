#include "weights.h"

#include <algorithm>

namespace pool {
namespace {

struct Updates {
  std::vector<protocol::UpdateReference> list;
  uint64_t bytes = 0;
};

// The updates that lead from one round's weights to another's; nothing where one of them is not kept.
std::optional<Updates> updates_between(Db& db, const std::string& job, uint64_t from, uint64_t to) {
  if (to - from > max_updates) return std::nullopt;
  Updates updates;
  Statement rows = query(db,
                         "SELECT u.round, u.digest, u.bytes, w.digest FROM updates u JOIN weights w "
                         "ON w.job = u.job AND w.round = u.round + 1 "
                         "WHERE u.job = ? AND u.round >= ? AND u.round < ? AND u.kept ORDER BY u.round",
                         job, from, to);
  while (rows.executeStep()) {
    updates.list.push_back({number_at(rows, 0), {bytes_at(rows, 1), number_at(rows, 2)}, bytes_at(rows, 3)});
    updates.bytes += updates.list.back().blob.bytes;
  }
  if (updates.list.size() != to - from) return std::nullopt;
  return updates;
}

}  // namespace

bool holds(std::span<const protocol::HeldWeights> held, const std::string& job, uint64_t round) {
  return std::any_of(held.begin(), held.end(), [&](const auto& h) { return h.job == job && h.round == round; });
}

std::optional<protocol::WeightsSource> weights_source(Db& db, const std::string& job, uint64_t round,
                                                      std::span<const protocol::HeldWeights> held) {
  protocol::WeightsSource source;
  source.round = round;
  Statement row = query(db, "SELECT digest FROM weights WHERE job = ? AND round = ?", job, round);
  if (!row.executeStep()) return std::nullopt;
  source.digest = bytes_at(row, 0);

  std::optional<Updates> from_held;
  std::optional<uint64_t> newest_held;
  for (const protocol::HeldWeights& h : held) {
    if (h.job == job && h.round <= round) newest_held = std::max(h.round, newest_held.value_or(0));
  }
  if (newest_held) from_held = updates_between(db, job, *newest_held, round);

  Statement checkpoint = query(
      db, "SELECT round, digest, bytes FROM weights WHERE job = ? AND round <= ? AND kept ORDER BY round DESC LIMIT 1",
      job, round);
  std::optional<Updates> from_checkpoint;
  if (checkpoint.executeStep()) from_checkpoint = updates_between(db, job, number_at(checkpoint, 0), round);

  if (from_held && (!from_checkpoint || from_held->bytes <= number_at(checkpoint, 2) + from_checkpoint->bytes)) {
    source.updates = std::move(from_held->list);
  } else if (from_checkpoint) {
    source.checkpoint = {number_at(checkpoint, 0), {bytes_at(checkpoint, 1), number_at(checkpoint, 2)}};
    source.updates = std::move(from_checkpoint->list);
  } else {
    return std::nullopt;
  }
  return source;
}

}  // namespace pool
