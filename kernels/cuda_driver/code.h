// The compiled kernels that the program carries, and which of them a card runs.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kernels::cuda {

struct ComputeCapability {
  int major = 0, minor = 0;
  bool operator==(const ComputeCapability&) const = default;
};
std::string text(ComputeCapability capability);  // "8.6"

enum class Kind {
  cubin,        // runs on its capability and on higher minors of the same major
  exact_cubin,  // sm_90a: on its capability alone
  ptx,          // compiled by the driver, for its capability and all higher ones; ends with a zero byte
};

// All kernels for one architecture: one image for each file of kernels/cuda/. It lives as long as the program.
struct Code {
  std::string_view name;  // "sm_86", "compute_75"
  ComputeCapability capability;
  Kind kind = Kind::cubin;
  std::span<const std::span<const std::byte>> images;
};

// What the build made (packaging/cuda/embed.py); empty in a program built without CUDA.
std::span<const Code> embedded_code();

// Those of `codes` that a card runs, the best first: the cubin of its capability, of lower minors, then PTX.
std::vector<const Code*> choose_codes(std::span<const Code> codes, ComputeCapability card);

// Of the embedded code, likewise; at least one. Throws std::runtime_error where none fits, or there is none.
std::vector<const Code*> codes_for(ComputeCapability card);
// The best of it.
const Code& code_for(ComputeCapability card);

}  // namespace kernels::cuda
