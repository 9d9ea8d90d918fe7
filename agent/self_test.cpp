#include "self_test.h"

#include "exit.h"
#include "kernels/files.h"
#include "protocol/plan.h"

namespace agent {
namespace {

constexpr uint64_t shard_tokens = 5000;
constexpr size_t golden_vocabulary = 211;

// A fixed stream over the vocabulary; any would do.
void read_golden_tokens(size_t shard, uint64_t first, std::span<uint16_t> out) {
  for (uint16_t& token : out) {
    const uint64_t x = (shard + 1) * 0x9E3779B97F4A7C15u + first++ * 0xBF58476D1CE4E5B9u;
    token = static_cast<uint16_t>((x ^ (x >> 29)) % golden_vocabulary);
  }
}

kernels::ModelConfig golden_model() {
  return {.layers = 2, .heads = 3, .channels = 60, .positions = 83, .vocabulary = golden_vocabulary, .inner = 240};
}

kernels::ModelConfig golden_model_of_cards() {
  return {.layers = 1, .heads = 3, .channels = 36, .positions = 40, .vocabulary = golden_vocabulary, .inner = 70};
}

GoldenUnit golden_unit(const kernels::ModelConfig& model, kernels::Profile profile, const char* codec, uint64_t lanes,
                       uint64_t steps, uint64_t batch, uint64_t context, const char* commitments) {
  GoldenUnit golden;
  golden.config = model;
  golden.commitments = commitments;
  golden.weights.resize(kernels::parameter_count(golden.config));
  kernels::initialise_weights(golden.config, 7, golden.weights.data());
  golden.read_tokens = read_golden_tokens;
  protocol::Unit& unit = golden.unit;
  unit.name = "self-test.0.t0";
  unit.job = "self-test";
  unit.profile = kernels::name_of(profile);
  unit.codec = codec;
  unit.model = kernels::to_json(golden.config);
  unit.parameters = golden.weights.size();
  unit.lanes = lanes;
  unit.shards.assign(lanes, {{{}, 2 * shard_tokens}, shard_tokens});
  unit.seed = 3;
  unit.steps = steps;
  unit.batch = batch;
  unit.context = context;
  unit.tokens = lanes * steps * batch * context;
  if (steps > 1) {
    const protocol::InnerSettings settings{.lr = 1e-3, .weight_decay = 0.1, .max_grad_norm = 1};
    unit.inner = protocol::inner_numbers(settings, 0, steps);
  }
  return golden;
}

}  // namespace

std::vector<GoldenUnit> golden_units() {
  using kernels::Profile;
  const kernels::ModelConfig model = golden_model();
  return {golden_unit(model, Profile::exact_fp32, "int4", 1, 1, 15, 77,  // two blocks: 14 rows and 1
                      "f0b851f6c33a1b39d6bacb671c11d93c4986257688309e53649d853534a40cc4 "
                      "79c4ef9b6676def5e3bb4e2958fe0c6a1b8b039c5930a5df0c12d36264c138f6"),
          golden_unit(model, Profile::exact_fp32, "int4", 3, 2, 2, 41,
                      "1a3a5eb5456b7f69ebd9b92772a98db57649b867f46fccde33fc7191be056345 "
                      "c7ba4f0eb9af6c2289af176b8e5c71e2e682809129bad301b3a67534afe9b16e"),
          golden_unit(model, Profile::exact_int8_head, "int4", 1, 2, 15, 77,
                      "1efd9def2e60251043ffd29aabe2bc181dc5b4d9c266f6492d2faf4edc934a92 "
                      "935a5d2b0e2c7c4dd67cf0314d11282171ad6c872d873e90a59ce8fe90eadddb"),
          golden_unit(golden_model_of_cards(), Profile::exact_fp32, "int8", 2, 1, 2, 37,
                      "63a1ff31b941745d2134a9c30d633532645a6c7affad87bc5a72c4be5bad3f4e "
                      "00816a625e85b1698d4cf0e62fb9079fe67a49d077eb9d0885d654220295e20f")};
}

std::vector<GoldenUnit> golden_units_of_cards() {
  using kernels::Profile;
  const kernels::ModelConfig model = golden_model_of_cards();
  return {golden_unit(model, Profile::exact_fp32, "int4", 1, 1, 2, 37,
                      "e659febd6c6c19a2f2f71d61ba2e4f121f2a6dbbb4cc38d8570763de896458fe "
                      "bb696c2bf17c29154179732ebb2d718c2880a81dfe94fc76d2dfdba9301861a3"),
          golden_unit(model, Profile::exact_int8_head, "int4", 1, 2, 2, 37,
                      "8cefd085d720ace0f242f445ecc83f82ea7a97a20f8cb79239603012cc8cb929 "
                      "1f5e17349c50047614a84cc5d3c73a99c91248c71fe06cee939ccc136c3931e4")};
}

std::string commitments_of(const UnitResult& result) {
  return protocol::to_hex(result.digest) + " " + protocol::to_hex(result.segments_root);
}

namespace {

// advice: what to do about a unit that gives another bit.
void compare(UnitRunner& runner, const std::vector<GoldenUnit>& units, const std::string& advice,
             const kernels::Cancel& cancel) {
  for (size_t i = 0; i < units.size(); ++i) {
    const UnitPlan plan = runner.plan(units[i].unit, units[i].config, UINT64_MAX);
    const UnitResult result = runner.run(
        units[i].unit, units[i].config, plan, units[i].weights, units[i].read_tokens, [](uint64_t) {}, cancel);
    if (commitments_of(result) == units[i].commitments) continue;
    throw Failure(Exit::self_test, "self-test failed: this machine does not compute what every machine must (unit " +
                                       std::to_string(i + 1) + " gave " +
                                       protocol::to_hex(result.digest).substr(0, 16) + "…). " + advice);
  }
}

}  // namespace

void self_test(UnitRunner& cpu, const kernels::Cancel& cancel) {
  compare(cpu, golden_units(),
          "Overclocked or failing memory and CPUs do that: go back to stock clocks and test the memory. No work is "
          "taken, because every result would be refused",
          cancel);
}

void self_test_card(UnitRunner& card, const kernels::Cancel& cancel) {
  compare(card, golden_units_of_cards(), "Overclocked or failing cards do that: go back to stock clocks", cancel);
}

}  // namespace agent
