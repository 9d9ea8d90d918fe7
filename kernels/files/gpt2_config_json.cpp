// config.json of GPT2LMHeadModel. Keys that would change the mathematics are checked; the others are ignored, among
// them: the dropout rates (training here is without dropout, and GPT2Config's defaults are not 0),
// reorder_and_upcast_attn (the same formula in fp32), initializer_range, use_cache, summary_*, architectures,
// torch_dtype, *_token_id, task_specific_params.
#include <nlohmann/json.hpp>

#include "files/config_reader.h"
#include "files/families.h"

namespace kernels {

using nlohmann::json;

ModelConfig parse_gpt2_config(const json& config) {
  require_text(config, "activation_function", {"gelu_new", "gelu_pytorch_tanh"});
  require_flag(config, "tie_word_embeddings", true);
  require_flag(config, "scale_attn_weights", true);
  require_flag(config, "scale_attn_by_inverse_layer_idx", false);
  require_flag(config, "add_cross_attention", false);

  ModelConfig model;
  model.layers = read_size(config, "n_layer");
  model.heads = read_size(config, "n_head");
  model.channels = read_size(config, "n_embd");
  const bool older = config.contains("n_ctx") && !config.contains("n_positions");
  model.positions = read_size(config, older ? "n_ctx" : "n_positions");
  model.vocabulary = read_size(config, "vocab_size");
  model.inner = read_size(config, "n_inner", 4 * model.channels);
  model.norm_epsilon = read_epsilon(config, "layer_norm_epsilon", 1e-5f);
  parameters_of(model);  // refuses impossible shapes
  return model;
}

json gpt2_to_json(const ModelConfig& model) {
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

}  // namespace kernels
