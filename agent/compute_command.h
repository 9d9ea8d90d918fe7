// `gradminer compute`: one gradient, offline, of a Hugging Face model folder and a file of tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace agent {

struct ComputeOptions {
  std::filesystem::path model;   // folder: config.json and safetensors
  std::filesystem::path tokens;  // uint16, little-endian
  uint64_t batch = 0, context = 0;
  std::string profile = "exact-fp32";
  std::string device = "cpu";       // or "cuda", "cuda:N"
  uint64_t threads = 0;             // 0: one per core
  uint64_t memory_limit = 0;        // bytes of the whole process, or of the card; 0: what is available
  std::filesystem::path gradients;  // empty: not written
  bool json = false;
};

// Prints the result to stdout. Throws Failure for wrong input, kernels::NumericFailure.
void compute_command(const ComputeOptions& options);

}  // namespace agent
