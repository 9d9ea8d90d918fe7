// `gradminer sample`: text from a checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace agent {

struct SampleOptions {
  std::filesystem::path model;
  std::string prompt;  // for vocabularies of bytes only
  uint64_t length = 300;
  double temperature = 0.8;  // 0: always the likeliest token
  uint64_t seed = 1;
  uint64_t threads = 0;
};

// Prints prompt and `length` tokens to stdout: bytes as text where the vocabulary has at most 256 tokens, else numbers.
// Throws Failure for wrong input.
void sample_command(const SampleOptions& options);

}  // namespace agent
