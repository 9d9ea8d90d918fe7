// Pieces of JSON that messages, units and documents share.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "protocol/messages.h"
#include "reader.h"

namespace protocol {

constexpr size_t max_reason_length = 200;  // of a release or settlement

nlohmann::json to_json(const BlobReference& blob);
nlohmann::json to_json(const CheckpointReference& checkpoint);
nlohmann::json to_json(const ShardReference& shard);
nlohmann::json to_json(const std::vector<ShardReference>& shards);
inline std::string amount(uint64_t number) { return std::to_string(number); }  // integers as JSON strings

BlobReference read_blob(const Reader& reader);
CheckpointReference read_checkpoint(const Reader& reader);
// 1 to max_shards, each of `context` + 1 tokens at least, of two bytes each.
std::vector<ShardReference> read_shards(const Reader& reader, uint64_t context);
UnitName read_unit_name(const Reader& reader);
Unit read_unit(const Reader& reader);

}  // namespace protocol
