// Hugging Face model folders for the offline commands, with errors for a person.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "kernels/model_config.h"

namespace agent {

struct ModelFolder {
  std::filesystem::path folder;
  kernels::ModelConfig config;
};

// All throw Failure(input) that names file and reason; those of gradients Failure(disk).
ModelFolder open_model_folder(const std::filesystem::path& folder);
std::vector<float> read_model_weights(const ModelFolder& model);
// Whether write_gradients would replace what is there, asked before hours of computing.
void check_gradients_file(const std::filesystem::path& file);
void write_gradients(const std::filesystem::path& file, const kernels::ModelConfig& config,
                     std::span<const float> gradients);

}  // namespace agent
