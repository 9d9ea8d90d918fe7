// Seeded initial weights, docs/numerics.md section 8.
#include <cmath>
#include <cstdint>

#include "cpu/float_environment.h"
#include "kernels/model_config.h"

namespace kernels {
namespace {

// SplitMix64's finaliser.
uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// The sum of the twelve uint16 that element i draws.
uint32_t twelve_uniforms(uint64_t start, uint64_t i) {
  uint32_t sum = 0;
  for (uint64_t j = 0; j < 3; ++j) {
    const uint64_t word = mix(start + (3 * i + j + 1) * 0x9E3779B97F4A7C15u);
    for (int shift = 0; shift < 64; shift += 16) sum += static_cast<uint32_t>(word >> shift) & 0xFFFF;
  }
  return sum;
}

bool ends_residual_branch(const std::string& name) {
  return name.ends_with(".c_proj.weight") || name.ends_with(".o_proj.weight") || name.ends_with(".down_proj.weight");
}

}  // namespace

void initialise_weights(const ModelConfig& config, unsigned long long seed, float* weights) {
  const FloatEnvironment environment;
  const uint64_t start = mix(seed);
  const float residual_std = 0.02f / std::sqrt(static_cast<float>(2 * config.layers));
  for (const Parameter& parameter : parameters_of(config)) {
    float* tensor = weights + parameter.offset;
    if (parameter.shape.size() == 1) {
      const float value = parameter.name.ends_with(".weight") ? 1.0f : 0.0f;  // of a norm, or a bias
      for (size_t e = 0; e < parameter.count; ++e) tensor[e] = value;
      continue;
    }
    const float std = ends_residual_branch(parameter.name) ? residual_std : 0.02f;
    const float unit = std / 131072.0f;
    for (size_t e = 0; e < parameter.count; ++e) {
      const int64_t centred = 2 * int64_t{twelve_uniforms(start, parameter.offset + e)} - 786420;
      tensor[e] = static_cast<float>(centred) * unit;
    }
  }
}

}  // namespace kernels
