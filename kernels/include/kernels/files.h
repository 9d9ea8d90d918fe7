// Hugging Face model folders: config.json and safetensors. The only part of kernels that knows JSON;
// a separate target (kernels_files), so that the maths stays free of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "kernels/model_config.h"

namespace kernels {

// Reads the keys of GPT2Config or LlamaConfig. Throws std::invalid_argument naming the key, its value and what is
// supported. Keys that change nothing here are ignored.
// LLaMA's rope_inverse_frequencies (a key of our own: head size / 2 numbers, each exactly an fp32) are taken as they
// are where they are given, and computed from rope_theta and linear scaling where not.
ModelConfig parse_model_config(const nlohmann::json& config);

// The config.json that from_pretrained of transformers' GPT2LMHeadModel or LlamaForCausalLM reads; always with
// rope_inverse_frequencies for LLaMA.
nlohmann::json to_json(const ModelConfig& config);

// The exact bytes before the tensor data of model.safetensors in canonical order: 8-byte length and JSON header,
// padded with spaces to 8. A checkpoint file is this followed by the flat fp32 vector, so its SHA-256 is a function
// of config and weights alone.
std::string safetensors_header(const ModelConfig& config);

// Reads all weights of a folder (model.safetensors, or a sharded model.safetensors.index.json; F32, F16, BF16; names
// with or without "transformer." or "model."; a tied head, where it is stored, must equal the token embedding). Both
// throw std::runtime_error that names the file, the tensor or key, and the reason.
std::vector<float> read_weights(const std::filesystem::path& folder, const ModelConfig& config);
ModelConfig read_model_config(const std::filesystem::path& folder);
ModelConfig read_config_file(const std::filesystem::path& file);  // a config.json of any name, likewise

// The file that writing to `file` replaces or makes: where symbolic links lead. Throws std::runtime_error naming the
// file where that is there and no regular file: a rename would put one in the place of a pipe or a device.
std::filesystem::path replaceable_file(const std::filesystem::path& file);

// Writes a file of named tensors in the canonical order (weights or gradients), values: (parameter_count); atomically,
// by a temporary file beside the replaceable_file and a rename. Throws std::runtime_error naming the file and the
// system's reason.
void write_safetensors(const std::filesystem::path& file, const ModelConfig& config, const float* values);

}  // namespace kernels
