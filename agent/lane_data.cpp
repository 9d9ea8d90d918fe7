#include "lane_data.h"

#include <fcntl.h>

#include "protocol/plan.h"

namespace agent {

LaneData::LaneData(const protocol::Unit& unit, const ReadTokens& read_tokens)
    : unit_(unit), read_tokens_(read_tokens), tokens_(unit.batch * (unit.context + 1)) {}

void LaneData::read_row(size_t row, size_t shard, uint64_t first) {
  const size_t length = unit_.context + 1;
  read_tokens_(shard, first, std::span(tokens_).subspan(row * length, length));
}

kernels::TokenBatch LaneData::batch(uint64_t lane, uint64_t step) {
  for (uint64_t row = 0; row < unit_.batch; ++row) {
    read_row(row, lane,
             protocol::row_begin(unit_.seed, unit_.round, unit_.first_lane + lane, step, row, unit_.shards[lane].tokens,
                                 unit_.context));
  }
  return {unit_.batch, unit_.context, tokens_};
}

kernels::TokenBatch LaneData::evaluation_batch() {
  for (uint64_t row = 0; row < unit_.batch; ++row) {
    const protocol::EvaluationRow place = protocol::evaluation_row(row, unit_.batch, unit_.context, unit_.shards);
    read_row(row, place.shard, place.begin);
  }
  return {unit_.batch, unit_.context, tokens_};
}

ShardFiles::ShardFiles(const std::vector<std::filesystem::path>& files) {
  for (const std::filesystem::path& file : files) files_.push_back(std::make_unique<File>(file, O_RDONLY));
}

void ShardFiles::read(size_t shard, uint64_t first, std::span<uint16_t> out) const {
  files_[shard]->read_at(2 * first, {reinterpret_cast<uint8_t*>(out.data()), out.size_bytes()});
}

}  // namespace agent
