#include "protocol/plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string_view>

#include "protocol/blob.h"
#include "wide.h"

namespace protocol {
namespace {

using std::string_view_literals::operator""sv;

constexpr uint64_t block_tokens = 1024;  // docs/numerics.md section 4
constexpr uint64_t none = UINT64_MAX;    // step and row where a draw has none

uint64_t ceil_div(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }

// The first eight bytes, as they lie (little-endian), of SHA-256(tag 0x00 ‖ five u64).
uint64_t draw(uint64_t seed, uint64_t round, uint64_t lane, uint64_t step, uint64_t row) {
  const uint64_t numbers[] = {seed, round, lane, step, row};
  Sha256 hash;
  hash.update("gradminer data v1\0"sv);
  hash.update(std::span(reinterpret_cast<const uint8_t*>(numbers), sizeof numbers));
  const Digest digest = hash.finish();
  uint64_t value = 0;
  std::memcpy(&value, digest.data(), sizeof value);
  return value;
}

// By squaring, with products rounded in this order: pow() of one machine may differ from another's in the last place.
double power(double base, uint64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

// The rate of step number `step`, counted from 0 over the whole job.
double warm_rate(double lr, uint64_t step, uint64_t warmup) {
  if (step + 1 >= warmup) return lr;
  return lr * (static_cast<double>(step + 1) / static_cast<double>(warmup));
}

// t counts from 1.
AdamWStepNumbers step_numbers(double lr, double beta1, double beta2, double weight_decay, uint64_t t) {
  return {static_cast<float>(1 - lr * weight_decay), static_cast<float>(lr / (1 - power(beta1, t))),
          static_cast<float>(1 / std::sqrt(1 - power(beta2, t)))};
}

InnerAdamW constants(double beta1, double beta2, double epsilon, double max_grad_norm) {
  InnerAdamW numbers;
  numbers.beta1 = static_cast<float>(beta1);
  numbers.one_minus_beta1 = static_cast<float>(1 - beta1);
  numbers.beta2 = static_cast<float>(beta2);
  numbers.one_minus_beta2 = static_cast<float>(1 - beta2);
  numbers.epsilon = static_cast<float>(epsilon);
  numbers.max_grad_norm = static_cast<float>(max_grad_norm);
  return numbers;
}

double outer_rate_exact(const OuterSettings& settings, uint64_t round) {
  return warm_rate(settings.lr, round, settings.warmup_rounds);
}

uint64_t token_count(uint64_t lanes, uint64_t steps, uint64_t batch, uint64_t context) {
  const Wide tokens = Wide{lanes} * steps * batch * context;
  if (tokens > INT64_MAX) throw std::invalid_argument("a unit has more tokens than 64 bits can count");
  return static_cast<uint64_t>(tokens);
}

void plan_training(const JobDescription& job, Unit& unit) {
  if (unit.index >= job.units_per_round)
    throw std::invalid_argument("unit " + unit.name + " is not of the job's plan: a round has " +
                                std::to_string(job.units_per_round) + " units");
  unit.codec = job.codec;
  unit.lanes = job.lanes_per_unit;
  unit.first_lane = unit.index * unit.lanes;
  for (uint64_t lane = unit.first_lane; lane < unit.first_lane + unit.lanes; ++lane)
    unit.shards.push_back(job.train.at(shard_of_lane(job.seed, unit.round, lane, job.train.size())));
  unit.steps = job.steps;
  unit.batch = job.batch;
  if (job.inner) unit.inner = inner_numbers(*job.inner, unit.round, job.steps);
  unit.price = job.price_train;
  unit.max_result_bytes = blob_header_bytes + payload_bytes(codec_from_name(job.codec), job.parameters);
}

void plan_evaluation(const JobDescription& job, Unit& unit) {
  unit.codec = name_of(CodecId::fp32);
  unit.shards = job.validation;
  unit.batch = job.evaluate_rows;
  unit.price = job.price_evaluate;
  const uint64_t block_rows = ceil_div(block_tokens, job.context);
  unit.max_result_bytes = blob_header_bytes + payload_bytes(CodecId::fp32, ceil_div(job.evaluate_rows, block_rows));
}

}  // namespace

uint64_t shard_of_lane(uint64_t seed, uint64_t round, uint64_t lane, uint64_t shards) {
  if (shards == 0) throw std::invalid_argument("a job without shards has no plan");
  return draw(seed, round, lane, none, none) % shards;
}

uint64_t row_begin(uint64_t seed, uint64_t round, uint64_t lane, uint64_t step, uint64_t row, uint64_t shard_tokens,
                   uint64_t context) {
  if (shard_tokens <= context) throw std::invalid_argument("a shard must have more tokens than the context");
  return draw(seed, round, lane, step, row) % (shard_tokens - context);
}

EvaluationRow evaluation_row(uint64_t row, uint64_t rows, uint64_t context, const std::vector<ShardReference>& shards) {
  if (shards.empty() || row >= rows) throw std::invalid_argument("no such row of an evaluation");
  const uint64_t shard = row % shards.size();
  const uint64_t tokens = shards[shard].tokens;
  if (tokens <= context) throw std::invalid_argument("a shard must have more tokens than the context");
  const uint64_t place = row / shards.size(), places = ceil_div(rows, shards.size());
  const Wide begin = Wide{place} * (tokens - context - 1) / std::max<uint64_t>(1, places - 1);
  return {shard, static_cast<uint64_t>(begin)};
}

uint64_t price_of(uint64_t tokens, uint64_t flops_per_token, uint64_t price_per_gigaflop) {
  constexpr uint64_t gigaflop = 1'000'000'000, saturated = UINT64_MAX / 4;
  const Wide flops = Wide{tokens} * flops_per_token;
  if (price_per_gigaflop != 0 && flops > ~Wide{0} / price_per_gigaflop) return saturated;
  const Wide scaled = flops * price_per_gigaflop;
  const Wide price = scaled / gigaflop + (scaled % gigaflop != 0);
  return static_cast<uint64_t>(std::clamp<Wide>(price, 1, saturated));
}

InnerAdamW inner_numbers(const InnerSettings& settings, uint64_t round, uint64_t steps) {
  InnerAdamW numbers = constants(settings.beta1, settings.beta2, settings.epsilon, settings.max_grad_norm);
  numbers.steps.reserve(steps);
  for (uint64_t s = 0; s < steps; ++s) {
    const double lr = warm_rate(settings.lr, round * steps + s, settings.warmup_steps);
    numbers.steps.push_back(step_numbers(lr, settings.beta1, settings.beta2, settings.weight_decay, s + 1));
  }
  return numbers;
}

InnerAdamW outer_numbers(const OuterSettings& settings, uint64_t round) {
  InnerAdamW numbers = constants(settings.beta1, settings.beta2, settings.epsilon, 0);
  numbers.steps.push_back(step_numbers(outer_rate_exact(settings, round), settings.beta1, settings.beta2,
                                       settings.weight_decay, round + 1));
  return numbers;
}

float outer_rate(const OuterSettings& settings, uint64_t round) {
  return static_cast<float>(outer_rate_exact(settings, round));
}

Unit plan_unit(const JobDescription& job, uint64_t round, UnitKind kind, uint64_t index) {
  Unit unit;
  unit.name = unit_name(job.job, round, kind, index);
  unit.job = job.job;
  unit.round = unit.base_round = round;
  unit.index = index;
  unit.kind = kind;
  unit.profile = job.profile;
  unit.model = job.model;
  unit.parameters = job.parameters;
  unit.seed = job.seed;
  unit.context = job.context;
  if (kind == UnitKind::train)
    plan_training(job, unit);
  else
    plan_evaluation(job, unit);
  unit.tokens = token_count(unit.lanes, unit.steps, unit.batch, unit.context);
  return unit;
}

}  // namespace protocol
