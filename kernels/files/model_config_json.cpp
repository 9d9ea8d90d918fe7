// config.json of GPT2LMHeadModel. Keys that would change the mathematics are checked; the others are ignored, among
// them: the dropout rates (training here is without dropout), reorder_and_upcast_attn (the same formula in fp32),
// initializer_range, use_cache, summary_*, architectures, torch_dtype, *_token_id, task_specific_params.
#include <cfloat>
#include <charconv>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "files/json_file.h"
#include "kernels/files.h"

namespace kernels {

using nlohmann::json;

namespace {

[[noreturn]] void refuse(const char* key, const std::string& value, const std::string& supported) {
  throw std::invalid_argument("model config: " + std::string(key) + " = " + value + "; supported: " + supported);
}

size_t read_size(const json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) refuse(key, "(missing)", "a whole number");
  if (!found->is_number_unsigned()) refuse(key, shown(*found), "a whole number above 0");
  return found->get<size_t>();
}

// Absent means what GPT2Config's default means, which is always the supported value.
void require_flag(const json& config, const char* key, bool supported) {
  const auto found = config.find(key);
  if (found == config.end() || *found == json(supported)) return;
  refuse(key, shown(*found), supported ? "true" : "false");
}

void require_text(const json& config, const char* key, std::initializer_list<const char*> supported) {
  const auto found = config.find(key);
  std::string list;
  for (const char* value : supported) {
    if (found != config.end() && *found == json(value)) return;
    list += (list.empty() ? "\"" : " or \"") + std::string(value) + "\"";
  }
  refuse(key, found == config.end() ? "(missing)" : shown(*found), list);
}

// The shortest decimal of a float, as a double: 1e-05 and not 9.99999974737875e-06.
double shortest(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  double result = 0;
  std::from_chars(text, end, result);
  return result;
}

}  // namespace

ModelConfig parse_model_config(const json& config) {
  if (!config.is_object()) throw std::invalid_argument("model config: not a JSON object");
  require_text(config, "model_type", {"gpt2"});
  if (config.contains("activation_function"))
    require_text(config, "activation_function", {"gelu_new", "gelu_pytorch_tanh"});
  require_flag(config, "tie_word_embeddings", true);
  require_flag(config, "scale_attn_weights", true);
  require_flag(config, "scale_attn_by_inverse_layer_idx", false);
  require_flag(config, "add_cross_attention", false);

  ModelConfig model;
  model.layers = read_size(config, "n_layer");
  model.heads = read_size(config, "n_head");
  model.channels = read_size(config, "n_embd");
  model.positions = read_size(config, config.contains("n_positions") ? "n_positions" : "n_ctx");
  model.vocabulary = read_size(config, "vocab_size");
  const bool own_inner = config.contains("n_inner") && !config.at("n_inner").is_null();
  model.inner = own_inner ? read_size(config, "n_inner") : 4 * model.channels;
  if (const auto epsilon = config.find("layer_norm_epsilon"); epsilon != config.end()) {
    const bool fits = epsilon->is_number() && epsilon->get<double>() > 0 && epsilon->get<double>() <= 1;
    if (!fits || epsilon->get<double>() < double{FLT_MIN})
      refuse("layer_norm_epsilon", shown(*epsilon), "a number above 1.2e-38 and at most 1");
    model.norm_epsilon = static_cast<float>(epsilon->get<double>());
  }
  parameters_of(model);  // refuses impossible shapes
  return model;
}

json to_json(const ModelConfig& model) {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"n_layer", model.layers},
          {"n_head", model.heads},
          {"n_embd", model.channels},
          {"n_positions", model.positions},
          {"vocab_size", model.vocabulary},
          {"n_inner", model.inner},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", shortest(model.norm_epsilon)},
          {"tie_word_embeddings", true},
          {"attn_pdrop", 0.0},
          {"embd_pdrop", 0.0},
          {"resid_pdrop", 0.0},
          {"bos_token_id", nullptr},
          {"eos_token_id", nullptr},
          {"torch_dtype", "float32"}};
}

ModelConfig read_model_config(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  try {
    return parse_model_config(read_json_file(file));
  } catch (const std::invalid_argument& error) {
    throw std::runtime_error(file.string() + ": " + error.what());
  }
}

}  // namespace kernels
