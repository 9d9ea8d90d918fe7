#include "cuda_driver/code.h"

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

bool better(const Code& a, const Code& b) {
  const bool a_ptx = a.kind == Kind::ptx, b_ptx = b.kind == Kind::ptx;
  return a_ptx != b_ptx ? b_ptx : a.capability.minor > b.capability.minor;
}

}  // namespace

std::string text(ComputeCapability capability) {
  return std::to_string(capability.major) + "." + std::to_string(capability.minor);
}

const Code* choose_code(std::span<const Code> codes, ComputeCapability card) {
  const Code* best = nullptr;
  for (const Code& code : codes) {
    if (runs_on(code, card) && (best == nullptr || better(code, *best))) best = &code;
  }
  return best;
}

const Code& code_for(ComputeCapability card) {
  const std::span<const Code> codes = embedded_code();
  if (codes.empty()) {
    throw std::runtime_error(
        "this program was built without CUDA code (GRADMINER_CUDA); build it with GRADMINER_CUDA=ON");
  }
  if (const Code* code = choose_code(codes, card)) return *code;
  std::string names;
  for (const Code& code : codes) names += (names.empty() ? "" : ", ") + std::string(code.name);
  throw std::runtime_error("no code for compute capability " + text(card) + "; this program has " + names);
}

}  // namespace kernels::cuda
