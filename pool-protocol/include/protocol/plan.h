// The plan of a round: where a lane's rows lie (docs/protocol.md section 8), a unit's price (section 9), and the
// numbers that a schedule decides.
#pragma once

#include <cstdint>

#include "protocol/documents.h"
#include "protocol/messages.h"

namespace protocol {

uint64_t shard_of_lane(uint64_t seed, uint64_t round, uint64_t lane, uint64_t shards);
// First token of a row; shard_tokens > context.
uint64_t row_begin(uint64_t seed, uint64_t round, uint64_t lane, uint64_t step, uint64_t row, uint64_t shard_tokens,
                   uint64_t context);
struct EvaluationRow {
  uint64_t shard = 0, begin = 0;
};
EvaluationRow evaluation_row(uint64_t row, uint64_t rows, uint64_t context, const std::vector<ShardReference>& shards);

// flops_per_token = 6 N + 6 L T C. Saturates at UINT64_MAX / 4.
uint64_t price_of(uint64_t tokens, uint64_t flops_per_token, uint64_t price_per_gigaflop);

// The inner numbers of a round (bias corrections restart with each round; the learning rate goes on).
InnerAdamW inner_numbers(const InnerSettings& settings, uint64_t round, uint64_t steps);
// The outer AdamW's numbers of a round (t = round + 1): one step.
InnerAdamW outer_numbers(const OuterSettings& settings, uint64_t round);
// The outer learning rate of a round, warm-up included.
float outer_rate(const OuterSettings& settings, uint64_t round);

// Everything of a train or evaluate unit except `weights`, which depends on what the rig holds.
Unit plan_unit(const JobDescription& job, uint64_t round, UnitKind kind, uint64_t index);

}  // namespace protocol
