#include "cuda_driver/code.h"

#include <algorithm>
#include <stdexcept>
#include <tuple>

namespace kernels::cuda {
namespace {

bool runs_on(const Code& code, ComputeCapability card) {
  const auto [major, minor] = code.capability;
  switch (code.kind) {
    case Kind::cubin:
      return card.major == major && card.minor >= minor;
    case Kind::exact_cubin:
      return card == code.capability;
    case Kind::ptx:
      return std::tie(card.major, card.minor) >= std::tie(major, minor);
  }
  return false;
}

bool better(const Code* a, const Code* b) {
  const auto rank = [](const Code& code) {
    return std::tuple(code.kind != Kind::ptx, code.capability.major, code.capability.minor);
  };
  return rank(*a) > rank(*b);
}

}  // namespace

std::string text(ComputeCapability capability) {
  return std::to_string(capability.major) + "." + std::to_string(capability.minor);
}

std::vector<const Code*> choose_codes(std::span<const Code> codes, ComputeCapability card) {
  std::vector<const Code*> chosen;
  for (const Code& code : codes) {
    if (runs_on(code, card)) chosen.push_back(&code);
  }
  std::stable_sort(chosen.begin(), chosen.end(), better);
  return chosen;
}

std::vector<const Code*> codes_for(ComputeCapability card) {
  const std::span<const Code> codes = embedded_code();
  if (codes.empty()) {
    throw std::runtime_error(
        "this program was built without CUDA code (GRADMINER_CUDA); build it with GRADMINER_CUDA=ON");
  }
  std::vector<const Code*> chosen = choose_codes(codes, card);
  if (!chosen.empty()) return chosen;
  std::string names;
  for (const Code& code : codes) names += (names.empty() ? "" : ", ") + std::string(code.name);
  throw std::runtime_error("no code for compute capability " + text(card) + "; this program has " + names);
}

const Code& code_for(ComputeCapability card) { return *codes_for(card).front(); }

}  // namespace kernels::cuda
