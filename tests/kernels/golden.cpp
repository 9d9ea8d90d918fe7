#include "golden.h"

#include <openssl/evp.h>

#include "kernels/codec.h"
#include "kernels/training.h"
#include "model_test_util.h"

namespace kernels::test {
namespace {

using nlohmann::ordered_json;
using Purpose = Trainer::Purpose;

std::string sha256(const std::vector<uint8_t>& bytes) {
  unsigned char digest[32];
  if (EVP_Digest(bytes.data(), bytes.size(), digest, nullptr, EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("SHA-256 failed");
  std::string text;
  for (unsigned char byte : digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

ModelConfig config_of(const ordered_json& unit) {
  return {unit.at("layers"),
          unit.at("heads"),
          unit.at("channels"),
          unit.at("positions"),
          unit.at("vocabulary"),
          unit.at("inner"),
          1e-5f};
}

// A lane's result: with steps = 0 the gradient, otherwise the difference after that many local steps.
std::vector<float> lane_result(const ordered_json& unit, size_t lane, std::span<const float> weights, Ops& ops) {
  const ModelConfig config = config_of(unit);
  const size_t batch = unit.at("batch"), context = unit.at("context"), steps = unit.at("steps");
  const uint64_t seed = unit.at("seed");
  std::vector<float> result(weights.size());
  std::vector<uint16_t> tokens;
  const auto next = [&](size_t step) {
    tokens = some_tokens(config, batch, context, seed + 1000 * (lane + 1) + step);
    return TokenBatch{batch, context, tokens};
  };
  Trainer trainer(config, batch, context, ops, steps == 0 ? Purpose::gradient : Purpose::local_steps);
  if (steps == 0) {
    trainer.gradient(weights, next(0), result);
  } else {
    trainer.local_steps(weights, some_adamw(steps, 1.0f), next, result);
  }
  return result;
}

}  // namespace

std::string golden_digest(const ordered_json& unit, Ops& ops) {
  const std::vector<float> weights = some_weights(config_of(unit), unit.at("seed"));
  const size_t lanes = unit.at("lanes");
  LaneTree tree(lanes, weights.size(), ops);
  for (size_t lane = 0; lane < lanes; ++lane) tree.add(lane_result(unit, lane, weights, ops));

  const Codec codec = unit.at("codec") == "int4" ? Codec::int4 : Codec::fp32;
  std::vector<uint8_t> payload(encoded_bytes(codec, weights.size()));
  encode(codec, tree.sum(), payload);
  return sha256(payload);
}

}  // namespace kernels::test
