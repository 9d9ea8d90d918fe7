// config.json of both families: what is written is read again; what is wrong is refused by key, value and what would
// do.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "kernels/files.h"

namespace kernels {
namespace {

using nlohmann::json;

const ModelConfig tiny_gpt2{1, 2, 4, 5, 6, 7, 1e-5f};

// The config is refused in these words.
void expect_refused(const json& config, const std::string& complaint) {
  try {
    parse_model_config(config);
    ADD_FAILURE() << config << " accepted";
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find(complaint), std::string::npos)
        << "says: " << error.what() << "\nnot: " << complaint;
  }
}

// The same with one key changed.
void expect_refused(json config, const char* key, const char* value, const std::string& complaint) {
  config[key] = json::parse(value);
  expect_refused(config, complaint);
}

void expect_needed(json config, const char* key) {
  config.erase(key);
  expect_refused(config, std::string("model config: ") + key + " = (missing)");
}

TEST(ModelConfigJson, ReadsGpt2sOwnConfig) {
  const ModelConfig config = parse_model_config(json::parse(R"({
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256,
    "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
    "resid_pdrop": 0.1, "summary_activation": null, "summary_first_dropout": 0.1,
    "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}, "vocab_size": 50257})"));
  EXPECT_EQ(parameter_count(config), 124439808u);
  EXPECT_EQ(config.inner, 3072u);
  EXPECT_EQ(config.norm_epsilon, 1e-5f);
}

TEST(ModelConfigJson, IsWrittenAndReadAgain) {
  const ModelConfig config{3, 5, 35, 77, 65536, 99, 3e-6f};
  const ModelConfig again = parse_model_config(json::parse(to_json(config).dump()));
  EXPECT_EQ(again.inner, 99u);
  EXPECT_EQ(again.norm_epsilon, 3e-6f);
  EXPECT_EQ(parameter_count(again), parameter_count(config));
  EXPECT_EQ(to_json(config)["layer_norm_epsilon"].dump(), "3e-06");
}

TEST(ModelConfigJson, NamesKeyValueAndWhatIsSupported) {
  const struct {
    const char *key, *value, *complaint;
  } mistakes[] = {
      {"model_type", "\"mistral\"", "model_type = \"mistral\"; supported: \"gpt2\" or \"llama\""},
      {"model_type", "7", "model_type = 7"},
      {"n_layer", "\"12\"", "n_layer = \"12\"; supported: a whole number"},
      {"n_layer", "-1", "n_layer = -1"},
      {"n_layer", "2.5", "n_layer = 2.5"},
      {"n_layer", "null", "n_layer = null"},
      {"n_layer", "0", "n_layer = 0; supported: 1 to 4096"},
      {"n_head", "3", "n_embd = 4 is not a multiple of n_head = 3"},
      {"n_embd", "[4]", "n_embd = [4]"},
      {"n_embd", "18446744073709551615", "n_embd = 18446744073709551615; supported: 1 to"},
      {"n_embd", "18446744073709551616", "n_embd = 1.8"},
      {"n_positions", "true", "n_positions = true"},
      {"vocab_size", "100000", "vocab_size = 100000; supported: 1 to 65536"},
      {"n_inner", "{}", "n_inner = {}"},
      {"activation_function", "\"relu\"", "activation_function = \"relu\"; supported: \"gelu_new\""},
      {"activation_function", "null", "activation_function = null"},
      {"layer_norm_epsilon", "\"x\"", "layer_norm_epsilon = \"x\"; supported: a number"},
      {"layer_norm_epsilon", "0", "layer_norm_epsilon = 0"},
      {"layer_norm_epsilon", "1e-60", "layer_norm_epsilon = 1e-60"},
      {"tie_word_embeddings", "false", "tie_word_embeddings = false; supported: true"},
      {"scale_attn_weights", "false", "scale_attn_weights = false; supported: true"},
      {"scale_attn_by_inverse_layer_idx", "true", "scale_attn_by_inverse_layer_idx = true; supported: false"},
      {"add_cross_attention", "1", "add_cross_attention = 1; supported: false"},
  };
  for (const auto& mistake : mistakes)
    expect_refused(to_json(tiny_gpt2), mistake.key, mistake.value, mistake.complaint);
  for (const char* key : {"model_type", "n_layer", "n_head", "n_embd", "n_positions", "vocab_size"})
    expect_needed(to_json(tiny_gpt2), key);
  EXPECT_THROW(parse_model_config(json::array()), std::invalid_argument);
}

TEST(ModelConfigJson, ALongValueIsCutBetweenCharacters) {
  json config = to_json(tiny_gpt2);
  std::string value, start = "\"";
  for (int i = 0; i < 60; ++i) value += "ä";
  for (int i = 0; i < 49; ++i) start += "ä";  // 99 bytes with the quote
  config["model_type"] = value;
  expect_refused(config, "model_type = " + start + "…; supported");
}

// TinyLlama's, as published.
const char* const tiny_llama_json = R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 5632,
    "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 22,
    "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.35.0", "use_cache": true,
    "vocab_size": 32000})";

// hidden_size 8 in 2 heads.
json small_llama() {
  return {{"model_type", "llama"},   {"hidden_size", 8u},         {"intermediate_size", 12u},
          {"num_hidden_layers", 1u}, {"num_attention_heads", 2u}, {"max_position_embeddings", 16u},
          {"vocab_size", 10u}};
}

TEST(LlamaConfigJson, ReadsAPublishedConfig) {
  const ModelConfig config = parse_model_config(json::parse(tiny_llama_json));
  EXPECT_EQ(config.family, Family::llama);
  EXPECT_EQ(parameter_count(config), 1100048384u);
  EXPECT_EQ(config.kv_heads, 4u);
  EXPECT_FALSE(config.tied_head);
  EXPECT_EQ(config.norm_epsilon, 1e-5f);
  // As transformers computes them (torch, fp32).
  ASSERT_EQ(config.rope_inverse_frequencies.size(), 32u);
  EXPECT_EQ(config.rope_inverse_frequencies[0], 1.0f);
  EXPECT_EQ(config.rope_inverse_frequencies[1], 0.7498942017555237f);
  EXPECT_EQ(config.rope_inverse_frequencies[8], 0.10000000149011612f);
  EXPECT_EQ(config.rope_inverse_frequencies[31], 0.0001333521504420787f);
}

TEST(LlamaConfigJson, TakesTransformersDefaults) {
  const ModelConfig config = parse_model_config(small_llama());
  EXPECT_EQ(config.kv_heads, 2u);
  EXPECT_FALSE(config.tied_head);
  EXPECT_EQ(config.norm_epsilon, 1e-6f);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_EQ(config.rope_linear_factor, 1);
  EXPECT_EQ(config.rope_inverse_frequencies, (std::vector<float>{1.0f, 0.01f}));
}

TEST(LlamaConfigJson, IsWrittenAndReadAgain) {
  json config = small_llama();
  config["num_key_value_heads"] = 1u;
  config["tie_word_embeddings"] = true;
  config["rms_norm_eps"] = 3e-6;
  config["rope_theta"] = 500000;
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 3.0}};
  const ModelConfig model = parse_model_config(config);
  const json written = to_json(model);
  const ModelConfig again = parse_model_config(json::parse(written.dump()));
  EXPECT_EQ(to_json(again), written);
  EXPECT_EQ(again.rope_inverse_frequencies, model.rope_inverse_frequencies);
  EXPECT_EQ(parameter_count(again), parameter_count(model));
  // What transformers 4.40 checks: two fields, a factor that is a float.
  EXPECT_EQ(written["rope_scaling"].dump(), R"({"factor":3.0,"type":"linear"})");
  EXPECT_EQ(written["rope_theta"].dump(), "500000.0");
  EXPECT_EQ(written["rms_norm_eps"].dump(), "3e-06");
  for (const char* key : {"num_key_value_heads", "hidden_size", "intermediate_size", "num_hidden_layers",
                          "num_attention_heads", "max_position_embeddings", "vocab_size", "tie_word_embeddings"})
    EXPECT_EQ(written[key], config[key]) << key;
}

TEST(LlamaConfigJson, FrequenciesTravelAsExactNumbers) {
  json config = small_llama();
  const float odd = 0.0100000035f;  // within what another machine's pow might give
  config["rope_inverse_frequencies"] = {1.0, static_cast<double>(odd)};
  const ModelConfig model = parse_model_config(config);
  EXPECT_EQ(model.rope_inverse_frequencies, (std::vector<float>{1.0f, odd}));
  EXPECT_EQ(to_json(model)["rope_inverse_frequencies"], config["rope_inverse_frequencies"]);
}

TEST(LlamaConfigJson, EverySpellingOfLinearScalingDividesTheFrequencies) {
  const json spellings[] = {
      {{"rope_scaling", {{"type", "linear"}, {"factor", 3.0}}}},
      {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 3}}}},
      {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 3.0}, {"rope_theta", 10000.0}}}},
      {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 3.0}}}, {"rope_theta", 10000.0}},
  };
  for (const json& spelling : spellings) {
    json config = small_llama();
    config.update(spelling);
    const ModelConfig model = parse_model_config(config);
    EXPECT_EQ(model.rope_inverse_frequencies, (std::vector<float>{1.0f / 3.0f, 0.01f / 3.0f})) << spelling;
    EXPECT_EQ(model.rope_linear_factor, 3) << spelling;
  }
  const json none[] = {{{"rope_scaling", {{"rope_type", "default"}}}},
                       {{"rope_scaling", {{"type", "default"}, {"factor", 2.0}}}},
                       {{"rope_scaling", {{"type", "default"}, {"rope_type", "default"}}}},
                       {{"rope_parameters", {{"rope_theta", 10000.0}}}},
                       {{"rope_parameters", {{"rope_type", "default"}}}, {"rope_scaling", {{"type", "default"}}}},
                       {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}, {"rope_theta", 7.0}}};
  for (const json& spelling : none) {
    json config = small_llama();
    config.update(spelling);
    EXPECT_EQ(parse_model_config(config).rope_inverse_frequencies, (std::vector<float>{1.0f, 0.01f})) << spelling;
  }
}

TEST(LlamaConfigJson, NamesKeyValueAndWhatIsSupported) {
  const struct {
    const char *key, *value, *complaint;
  } mistakes[] = {
      {"num_hidden_layers", "0", "num_hidden_layers = 0; supported: 1 to 4096"},
      {"num_attention_heads", "0", "num_attention_heads = 0; supported: 1 to 4096"},
      {"num_attention_heads", "3", "hidden_size = 8 is not a multiple of num_attention_heads = 3"},
      {"num_attention_heads", "8", "hidden_size / num_attention_heads = 1; supported: even numbers"},
      {"num_key_value_heads", "4", "num_attention_heads = 2 is not a multiple of num_key_value_heads = 4"},
      {"num_key_value_heads", "-1", "num_key_value_heads = -1"},
      {"hidden_size", "18446744073709551615", "hidden_size = 18446744073709551615; supported: 1 to"},
      {"intermediate_size", "null", "intermediate_size = null"},
      {"vocab_size", "128256", "vocab_size = 128256; supported: 1 to 65536"},
      {"head_dim", "8", "head_dim = 8; supported: hidden_size / num_attention_heads = 4"},
      {"hidden_act", "\"gelu\"", "hidden_act = \"gelu\"; supported: \"silu\""},
      {"attention_bias", "true", "attention_bias = true; supported: false"},
      {"mlp_bias", "true", "mlp_bias = true; supported: false"},
      {"attention_dropout", "0.1", "attention_dropout = 0.1; supported: 0"},
      {"attention_dropout", "false", "attention_dropout = false; supported: 0"},
      {"pretraining_tp", "2", "pretraining_tp = 2; supported: 1"},
      {"partial_rotary_factor", "0.5", "partial_rotary_factor = 0.5; supported: 1"},
      {"rms_norm_eps", "0", "rms_norm_eps = 0; supported: a number"},
      {"tie_word_embeddings", "null", "tie_word_embeddings = null; supported: true or false"},
      {"rope_theta", "0.5", "rope_theta = 0.5; supported: a number from 1.0 to"},
      {"rope_theta", "\"10000\"", "rope_theta = \"10000\""},
      {"rope_scaling", "2", "rope_scaling = 2; supported: null or an object"},
      {"rope_scaling", R"({"type": "dynamic", "factor": 2.0})",
       "rope_scaling.type = \"dynamic\"; supported: \"default\" or \"linear\""},
      {"rope_scaling", "{}", "rope_scaling = {}; supported: null or an object with rope_type"},
      {"rope_scaling", R"({"factor": 4.0})",
       "rope_scaling.rope_type = (missing); supported: \"default\" or \"linear\""},
      {"rope_scaling", R"({"type": "dynamic", "rope_type": "default"})", "rope_scaling.type = \"dynamic\""},
      {"rope_scaling", R"({"type": "linear", "rope_type": "default", "factor": 2.0})",
       "rope_scaling.type = \"linear\"; supported: what rope_scaling.rope_type says"},
      {"rope_scaling", R"({"type": 1})", "rope_scaling.type = 1"},
      {"rope_parameters", R"({"factor": 4.0})", "rope_parameters.rope_type = (missing)"},
      {"rope_parameters", R"({"full_attention": {"rope_type": "yarn"}})", "rope_parameters.full_attention = {"},
      {"rope_scaling", R"({"rope_type": "llama3", "factor": 8.0})", "rope_type = \"llama3\"; supported: \"default\""},
      {"rope_scaling", R"({"type": "linear"})", "rope_scaling.factor = (missing); supported: a number of at least 1"},
      {"rope_scaling", R"({"type": "linear", "factor": 0.5})",
       "rope_scaling.factor = 0.5; supported: a number from 1.0 to"},
      {"rope_parameters", R"({"rope_type": "yarn", "factor": 2.0})", "rope_type = \"yarn\""},
      {"rope_parameters", R"({"partial_rotary_factor": 0.25})", "rope_parameters.partial_rotary_factor = 0.25"},
      {"rope_parameters", R"({"rope_theta": 0.5})",
       "rope_parameters.rope_theta = 0.5; supported: a number from 1.0 to"},
      {"rope_inverse_frequencies", "null", "rope_inverse_frequencies = null; supported: 2 numbers"},
      {"rope_inverse_frequencies", "[1]", "rope_inverse_frequencies = [1]; supported: 2 numbers"},
      {"rope_inverse_frequencies", "[1, 0.01]",
       "rope_inverse_frequencies = 0.01; supported: 2 numbers (half a head), each exactly"},
      {"rope_inverse_frequencies", "[1, \"x\"]", "rope_inverse_frequencies = \"x\""},
      {"rope_inverse_frequencies", "[2, 0]", "rope_inverse_frequencies = 2"},
      {"rope_inverse_frequencies", "[1, 0.015625]",
       "rope_inverse_frequencies = 0.015625; supported: 0.00999999977648258"},
  };
  for (const auto& mistake : mistakes) expect_refused(small_llama(), mistake.key, mistake.value, mistake.complaint);
  for (const char* key : {"num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size",
                          "max_position_embeddings", "vocab_size"})
    expect_needed(small_llama(), key);
}

}  // namespace
}  // namespace kernels
