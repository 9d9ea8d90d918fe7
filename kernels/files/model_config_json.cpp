#include <nlohmann/json.hpp>
#include <stdexcept>

#include "files/config_reader.h"
#include "files/families.h"
#include "files/json_file.h"
#include "kernels/files.h"

namespace kernels {

using nlohmann::json;

ModelConfig parse_model_config(const json& config) {
  if (!config.is_object()) throw std::invalid_argument("model config: not a JSON object");
  if (!config.contains("model_type")) refuse("model_type", "(missing)", "\"gpt2\" or \"llama\"");
  require_text(config, "model_type", {"gpt2", "llama"});
  return config.at("model_type") == "llama" ? parse_llama_config(config) : parse_gpt2_config(config);
}

json to_json(const ModelConfig& model) {
  return model.family == Family::llama ? llama_to_json(model) : gpt2_to_json(model);
}

ModelConfig read_model_config(const std::filesystem::path& folder) { return read_config_file(folder / "config.json"); }

ModelConfig read_config_file(const std::filesystem::path& file) {
  try {
    return parse_model_config(read_json_file(file));
  } catch (const std::invalid_argument& error) {
    throw std::runtime_error(file.string() + ": " + error.what());
  }
}

}  // namespace kernels
