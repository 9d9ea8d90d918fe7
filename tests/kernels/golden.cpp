#include "golden.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "kernels/codec.h"
#include "kernels/training.h"
#include "model_test_util.h"

namespace kernels::test {
namespace {

using Purpose = Trainer::Purpose;

// By coreutils' sha256sum: no library of this machine serves another architecture's programs (cross/).
std::string sha256(const std::vector<uint8_t>& bytes) {
  char name[] = "/tmp/golden-XXXXXX";
  const int file = mkstemp(name);
  const bool written = file >= 0 && write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  char digest[65] = {};
  if (FILE* pipe = written ? popen(("sha256sum " + std::string(name)).c_str(), "r") : nullptr) {
    const bool read = std::fscanf(pipe, "%64[0-9a-f]", digest) == 1;
    if (pclose(pipe) != 0 || !read) digest[0] = 0;
  }
  if (file >= 0) close(file), unlink(name);
  if (digest[0] == 0) throw std::runtime_error("sha256sum failed");
  return digest;
}

ModelConfig config_of(const GoldenUnit& unit) {
  if (unit.family == "llama" || unit.family == "llama-tied")
    return llama({unit.layers, unit.heads, unit.kv, unit.channels, unit.positions, unit.vocabulary, unit.inner,
                  unit.family == "llama-tied"});
  if (unit.family != "gpt2") throw std::runtime_error(unit.name + ": the family " + unit.family + " is not known");
  return {unit.layers, unit.heads, unit.channels, unit.positions, unit.vocabulary, unit.inner, 1e-5f};
}

Codec codec_of(const GoldenUnit& unit) {
  if (unit.codec == "fp32") return Codec::fp32;
  if (unit.codec == "int4") return Codec::int4;
  if (unit.codec == "int8") return Codec::int8;
  throw std::runtime_error(unit.name + ": the codec " + unit.codec + " is not known");
}

Profile profile_of(const GoldenUnit& unit) {
  const std::optional<Profile> profile = profile_named(unit.profile);
  if (profile && name_of(*profile) == unit.profile) return *profile;
  throw std::runtime_error(unit.name + ": the profile " + unit.profile + " is not known");
}

// A lane's result: with steps = 0 the gradient, otherwise the difference after that many local steps.
std::vector<float> lane_result(const GoldenUnit& unit, size_t lane, std::span<const float> weights, Ops& ops) {
  const ModelConfig config = config_of(unit);
  std::vector<float> result(weights.size());
  std::vector<uint16_t> tokens;
  const auto next = [&](size_t step) {
    tokens = some_tokens(config, unit.batch, unit.context, unit.seed + 1000 * (lane + 1) + step);
    return TokenBatch{unit.batch, unit.context, tokens};
  };
  const Purpose purpose = unit.steps == 0 ? Purpose::gradient : Purpose::local_steps;
  const Trainer::Settings settings = Trainer::settings_within(std::numeric_limits<size_t>::max(), config, unit.batch,
                                                              unit.context, ops, {purpose, false, profile_of(unit)});
  Trainer trainer(config, unit.batch, unit.context, ops, settings);
  if (unit.steps == 0) {
    trainer.gradient(weights, next(0), result);
  } else {
    trainer.local_steps(weights, some_adamw(unit.steps, 1.0f), next, result);
  }
  return result;
}

std::vector<uint8_t> encoded(Codec codec, std::span<const float> values, Ops& ops) {
  const std::unique_ptr<float, std::function<void(float*)>> x(static_cast<float*>(ops.allocate(values.size_bytes())),
                                                              [&](float* memory) { ops.free(memory); });
  ops.write(x.get(), values.data(), values.size_bytes());
  std::vector<uint8_t> payload(encoded_bytes(codec, values.size()));
  ops.encode({codec, values.size(), x.get(), payload.data(), payload.data() + scale_bytes(codec, values.size())});
  return payload;
}

}  // namespace

bool parse_golden(const std::string& row, GoldenUnit& unit) {
  std::istringstream in(row);
  if (!(in >> unit.name) || unit.name[0] == '#' || unit.name == "name") return false;
  in >> unit.family >> unit.profile >> unit.layers >> unit.heads >> unit.kv >> unit.channels >> unit.positions >>
      unit.vocabulary >> unit.inner >> unit.batch >> unit.context >> unit.steps >> unit.lanes >> unit.codec >>
      unit.seed >> unit.sha256;
  if (!in) throw std::runtime_error("a golden unit lacks columns: " + row);
  return true;
}

std::vector<GoldenUnit> read_golden(const std::string& file) {
  std::ifstream in(file);
  if (!in) throw std::runtime_error(file + " cannot be read");
  std::vector<GoldenUnit> units;
  GoldenUnit unit;
  for (std::string row; std::getline(in, row);) {
    if (parse_golden(row, unit)) units.push_back(unit);
  }
  return units;
}

std::string golden_digest(const GoldenUnit& unit, Ops& ops) {
  const std::vector<float> weights = some_weights(config_of(unit), unit.seed);
  const std::unique_ptr<Ops> host = make_reference_ops();
  LaneTree tree(unit.lanes, weights.size(), ops.in_host_memory() ? ops : *host);
  for (size_t lane = 0; lane < unit.lanes; ++lane) tree.add(lane, lane_result(unit, lane, weights, ops));

  return sha256(encoded(codec_of(unit), tree.sum(), ops));
}

}  // namespace kernels::test
