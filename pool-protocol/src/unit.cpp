// The unit of a lease: JSON both ways, and what must agree inside it.
#include <charconv>

#include "parts.h"
#include "protocol/json.h"
#include "wide.h"

namespace protocol {
namespace {

using nlohmann::json;

json to_json(const UpdateReference& update) {
  json result = to_json(update.blob);
  result["round"] = update.round;
  result["weights"] = to_hex(update.weights);
  return result;
}

json to_json(const WeightsSource& weights) {
  json updates = json::array();
  for (const UpdateReference& update : weights.updates) updates.push_back(to_json(update));
  return {{"round", weights.round},
          {"digest", to_hex(weights.digest)},
          {"checkpoint", weights.checkpoint ? protocol::to_json(*weights.checkpoint) : json(nullptr)},
          {"updates", std::move(updates)}};
}

json to_json(const InnerAdamW& inner) {
  json steps = json::array();
  for (const AdamWStepNumbers& step : inner.steps)
    steps.push_back({{"decay", step.decay}, {"step_size", step.step_size}, {"inv_sqrt_bc2", step.inv_sqrt_bc2}});
  return {{"name", "adamw"},
          {"beta1", inner.beta1},
          {"one_minus_beta1", inner.one_minus_beta1},
          {"beta2", inner.beta2},
          {"one_minus_beta2", inner.one_minus_beta2},
          {"epsilon", inner.epsilon},
          {"max_grad_norm", inner.max_grad_norm},
          {"steps", std::move(steps)}};
}

UnitKind read_kind(const Reader& reader) {
  const std::string kind = reader.string(16);
  if (kind == "train") return UnitKind::train;
  if (kind == "evaluate") return UnitKind::evaluate;
  reader.refuse("must be \"train\" or \"evaluate\"");
}

UpdateReference read_update(const Reader& reader) {
  return {reader["round"].unsigned_integer(max_rounds), read_blob(reader), reader["weights"].digest()};
}

// The updates, one after another, must lead from the checkpoint (or a held round) to the weights asked for.
WeightsSource read_weights(const Reader& reader) {
  WeightsSource weights;
  weights.round = reader["round"].unsigned_integer(max_rounds);
  weights.digest = reader["digest"].digest();
  if (const Reader checkpoint = reader["checkpoint"]; reader.has("checkpoint"))
    weights.checkpoint = read_checkpoint(checkpoint);

  const Reader updates = reader["updates"];
  const size_t count = updates.size(max_updates);
  for (size_t i = 0; i < count; ++i) weights.updates.push_back(read_update(updates.at(i)));
  if (count > weights.round) updates.refuse("has more entries than rounds have passed");
  const uint64_t first = weights.round - count;
  for (size_t i = 0; i < count; ++i)
    if (const Reader update = updates.at(i); weights.updates[i].round != first + i)
      update["round"].refuse("must be " + std::to_string(first + i) + ": the updates lead to the weights' round");
  if (weights.checkpoint && weights.checkpoint->round != first)
    reader["checkpoint"].refuse("is not of the round where the updates begin");
  if (weights.checkpoint && count == 0 && weights.checkpoint->blob.digest != weights.digest)
    reader["checkpoint"].refuse("has another digest than the weights");
  if (count > 0 && weights.updates.back().weights != weights.digest)
    updates.refuse("end in other weights than weights.digest");
  return weights;
}

InnerAdamW read_inner(const Reader& reader, uint64_t unit_steps) {
  if (reader["name"].string(16) != "adamw") reader["name"].refuse("must be \"adamw\"");
  InnerAdamW inner;
  inner.beta1 = reader["beta1"].fp32();
  inner.one_minus_beta1 = reader["one_minus_beta1"].fp32();
  inner.beta2 = reader["beta2"].fp32();
  inner.one_minus_beta2 = reader["one_minus_beta2"].fp32();
  inner.epsilon = reader["epsilon"].fp32();
  inner.max_grad_norm = reader["max_grad_norm"].fp32();
  const Reader steps = reader["steps"];
  const size_t count = steps.size(max_steps);
  if (count != unit_steps) steps.refuse("must have as many entries as the unit has steps");
  inner.steps.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const Reader step = steps.at(i);
    inner.steps.push_back({step["decay"].fp32(), step["step_size"].fp32(), step["inv_sqrt_bc2"].fp32()});
  }
  return inner;
}

// What follows from other members must agree with them.
void check_unit(const Unit& unit, const Reader& reader) {
  if (unit.name != unit_name(unit.job, unit.round, unit.kind, unit.index))
    reader["unit"].refuse("is not the name that follows from job, round, kind and index");
  if (unit.base_round > unit.round) reader["base_round"].refuse("must not be later than the round");
  if (unit.weights.round != unit.base_round) reader["weights"].refuse("are not of the base round");
  if (unit.kind == UnitKind::evaluate && (unit.lanes != 1 || unit.first_lane != 0 || unit.steps != 1))
    reader.refuse("evaluates, so lanes must be 1, first_lane 0 and steps 1");
  if (unit.kind == UnitKind::train && unit.first_lane != unit.index * unit.lanes)
    reader["first_lane"].refuse("must be index · lanes");
  if (unit.kind == UnitKind::train && unit.shards.size() != unit.lanes)
    reader["shards"].refuse("must have one entry per lane");
  if (unit.inner.has_value() != (unit.steps > 1)) reader["inner"].refuse("must be null if, and only if, steps is 1");
  // At most 2^73.
  if (Wide{unit.lanes} * unit.steps * unit.batch * unit.context != unit.tokens)
    reader["tokens"].refuse("must be lanes · steps · batch · context");
}

}  // namespace

const char* to_string(UnitKind kind) { return kind == UnitKind::train ? "train" : "evaluate"; }

std::string unit_name(const std::string& job, uint64_t round, UnitKind kind, uint64_t index) {
  return job + "." + std::to_string(round) + "." + to_string(kind)[0] + std::to_string(index);
}

std::optional<UnitName> parse_unit_name(std::string_view text) {
  const size_t first = text.find('.'), second = text.find('.', first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos || second + 1 >= text.size()) return {};
  const auto number = [](std::string_view digits) {
    uint64_t value = max_rounds + 1;  // what is no number is out of range, or differs when written again
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
  };
  UnitName name;
  name.job = text.substr(0, first);
  name.round = number(text.substr(first + 1, second - first - 1));
  name.kind = text[second + 1] == 'e' ? UnitKind::evaluate : UnitKind::train;
  name.index = number(text.substr(second + 2));
  if (!is_job_name(name.job) || name.round > max_rounds || name.index >= max_units_per_round ||
      unit_name(name.job, name.round, name.kind, name.index) != text)
    return {};
  return name;
}

UnitName read_unit_name(const Reader& reader) {
  const auto name = parse_unit_name(reader.string(64));
  if (!name) reader.refuse("must be a unit's name, JOB.ROUND.tINDEX or JOB.ROUND.eINDEX");
  return *name;
}

json to_json(const BlobReference& blob) { return {{"digest", to_hex(blob.digest)}, {"bytes", blob.bytes}}; }

json to_json(const CheckpointReference& checkpoint) {
  json result = to_json(checkpoint.blob);
  result["round"] = checkpoint.round;
  return result;
}

json to_json(const ShardReference& shard) {
  json result = to_json(shard.blob);
  result["tokens"] = shard.tokens;
  return result;
}

json to_json(const std::vector<ShardReference>& shards) {
  json result = json::array();
  for (const ShardReference& shard : shards) result.push_back(to_json(shard));
  return result;
}

BlobReference read_blob(const Reader& reader) {
  return {reader["digest"].digest(), reader["bytes"].unsigned_integer(max_blob_bytes, 1)};
}

CheckpointReference read_checkpoint(const Reader& reader) {
  return {reader["round"].unsigned_integer(max_rounds), read_blob(reader)};
}

std::vector<ShardReference> read_shards(const Reader& reader, uint64_t context) {
  const size_t count = reader.size(max_shards);
  if (count == 0) reader.refuse("must not be empty");
  std::vector<ShardReference> shards;
  shards.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const Reader entry = reader.at(i);
    ShardReference shard{read_blob(entry), entry["tokens"].unsigned_integer(max_blob_bytes / 2)};
    if (shard.tokens <= context) entry["tokens"].refuse("must be more than the context");
    if (shard.blob.bytes != 2 * shard.tokens) entry["bytes"].refuse("must be twice the tokens");
    shards.push_back(shard);
  }
  return shards;
}

json to_json(const Unit& unit) {
  return {{"unit", unit.name},
          {"job", unit.job},
          {"round", unit.round},
          {"index", unit.index},
          {"kind", to_string(unit.kind)},
          {"profile", unit.profile},
          {"codec", unit.codec},
          {"model", unit.model},
          {"parameters", unit.parameters},
          {"base_round", unit.base_round},
          {"weights", to_json(unit.weights)},
          {"first_lane", unit.first_lane},
          {"lanes", unit.lanes},
          {"shards", to_json(unit.shards)},
          {"seed", amount(unit.seed)},
          {"steps", unit.steps},
          {"batch", unit.batch},
          {"context", unit.context},
          {"inner", unit.inner ? to_json(*unit.inner) : json(nullptr)},
          {"tokens", unit.tokens},
          {"price", amount(unit.price)},
          {"max_result_bytes", unit.max_result_bytes}};
}

Unit read_unit(const Reader& reader) {
  Unit unit;
  unit.name = reader["unit"].string(64);
  unit.job = reader["job"].job_name();
  unit.round = reader["round"].unsigned_integer(max_rounds);
  unit.index = reader["index"].unsigned_integer(max_units_per_round - 1);
  unit.kind = read_kind(reader["kind"]);
  unit.profile = reader["profile"].name_list_entry();
  unit.codec = reader["codec"].name_list_entry();
  unit.model = reader["model"].object();
  unit.parameters = reader["parameters"].unsigned_integer(max_parameters, 1);
  unit.base_round = reader["base_round"].unsigned_integer(max_rounds);
  unit.weights = read_weights(reader["weights"]);
  unit.first_lane = reader["first_lane"].unsigned_integer(max_units_per_round * max_lanes);
  unit.lanes = reader["lanes"].unsigned_integer(max_lanes, 1);
  unit.seed = reader["seed"].decimal(UINT64_MAX);
  unit.steps = reader["steps"].unsigned_integer(max_steps, 1);
  unit.batch = reader["batch"].unsigned_integer(max_batch, 1);
  unit.context = reader["context"].unsigned_integer(max_context, 1);
  unit.shards = read_shards(reader["shards"], unit.context);
  if (const Reader inner = reader["inner"]; reader.has("inner")) unit.inner = read_inner(inner, unit.steps);
  unit.tokens = reader["tokens"].unsigned_integer(max_integer);
  unit.price = reader["price"].decimal(max_integer);
  unit.max_result_bytes = reader["max_result_bytes"].unsigned_integer(max_blob_bytes, 1);
  check_unit(unit, reader);
  return unit;
}

Unit unit_from_json(const json& message) { return read_unit(Reader(message)); }

}  // namespace protocol
