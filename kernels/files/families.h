// config.json of each family; model_config_json.cpp chooses.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "kernels/model_config.h"

namespace kernels {

ModelConfig parse_gpt2_config(const nlohmann::json& config);
nlohmann::json gpt2_to_json(const ModelConfig& model);

ModelConfig parse_llama_config(const nlohmann::json& config);
nlohmann::json llama_to_json(const ModelConfig& model);

}  // namespace kernels
