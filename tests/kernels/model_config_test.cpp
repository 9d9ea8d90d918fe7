#include "kernels/model_config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/gpt2_tensors.h"
#include "model/llama_tensors.h"
#include "model_test_util.h"
#include "model_test_util.h"

namespace kernels {
namespace {

const ModelConfig gpt2_small{12, 12, 768, 1024, 50257, 3072, 1e-5f};
const ModelConfig tiny_gpt2{2, 3, 12, 10, 7, 20, 1e-5f};

TEST(ModelConfig, CountsTheParametersOfGpt2) {
  EXPECT_EQ(parameter_count(gpt2_small), 124439808u);
  EXPECT_DOUBLE_EQ(training_flops_per_token(gpt2_small, 1024), 6.0 * 124439808 + 6.0 * 12 * 1024 * 768);
}

TEST(ModelConfig, OrdersParametersLikeTransformers) {
  const std::vector<Parameter> parameters = parameters_of(tiny_gpt2);
  ASSERT_EQ(parameters.size(), 2u + 2 * 12 + 2);
  EXPECT_EQ(parameters[0].name, "transformer.wte.weight");
  EXPECT_EQ(parameters[1].name, "transformer.wpe.weight");
  EXPECT_EQ(parameters[4].name, "transformer.h.0.attn.c_attn.weight");
  EXPECT_EQ(parameters[4].shape, (std::vector<size_t>{12, 36}));
  EXPECT_TRUE(parameters[4].decays());
  EXPECT_EQ(parameters[25].name, "transformer.h.1.mlp.c_proj.bias");
  EXPECT_FALSE(parameters[25].decays());
  EXPECT_EQ(parameters[27].name, "transformer.ln_f.bias");
  size_t offset = 0;
  for (const Parameter& parameter : parameters) {
    EXPECT_EQ(parameter.offset, offset) << parameter.name;
    offset += parameter.count;
  }
  EXPECT_EQ(parameter_count(tiny_gpt2), offset);
}

TEST(ModelConfig, TensorsViewFollowsTheSameOrder) {
  const std::vector<Parameter> parameters = parameters_of(tiny_gpt2);
  std::vector<float> flat(parameter_count(tiny_gpt2));
  const Gpt2Tensors<float> view(tiny_gpt2, flat.data());
  std::vector<float*> pointers = {view.wte(), view.wpe()};
  for (size_t index = 0; index < tiny_gpt2.layers; ++index) {
    const Gpt2Layer<float> l = view.layer(index);
    for (float* p : {l.ln_1_weight, l.ln_1_bias, l.attn_weight, l.attn_bias, l.proj_weight, l.proj_bias, l.ln_2_weight,
                     l.ln_2_bias, l.fc_weight, l.fc_bias, l.fc_out_weight, l.fc_out_bias})
      pointers.push_back(p);
  }
  pointers.push_back(view.ln_f_weight());
  pointers.push_back(view.ln_f_bias());
  ASSERT_EQ(pointers.size(), parameters.size());
  for (size_t i = 0; i < pointers.size(); ++i)
    EXPECT_EQ(static_cast<size_t>(pointers[i] - flat.data()), parameters[i].offset) << parameters[i].name;
}

TEST(ModelConfig, LlamaTensorsFollowTheOrderOfTransformers) {
  for (const bool tied : {false, true}) {
    const ModelConfig config = test::llama({2, 4, 2, 16, 10, 7, 20, tied});
    const std::vector<Parameter> parameters = parameters_of(config);
    EXPECT_EQ(parameters[2].name, "model.layers.0.self_attn.k_proj.weight");
    EXPECT_EQ(parameters[2].shape, (std::vector<size_t>{8, 16}));
    EXPECT_EQ(parameters[7].name, "model.layers.0.mlp.down_proj.weight");
    EXPECT_EQ(parameters[7].shape, (std::vector<size_t>{16, 20}));
    EXPECT_EQ(parameters.back().name, tied ? "model.norm.weight" : "lm_head.weight");

    std::vector<float> flat(parameter_count(config));
    const LlamaTensors<float> view(config, flat.data());
    const auto expect_at = [&](float* pointer, const std::string& name) {
      const auto parameter =
          std::find_if(parameters.begin(), parameters.end(), [&](const Parameter& p) { return p.name == name; });
      ASSERT_NE(parameter, parameters.end()) << name;
      EXPECT_EQ(static_cast<size_t>(pointer - flat.data()), parameter->offset) << name;
    };
    for (size_t index = 0; index < config.layers; ++index) {
      const std::string h = "model.layers." + std::to_string(index) + ".";
      const LlamaLayer<float> layer = view.layer(index);
      expect_at(layer.qkv_weight, h + "self_attn.q_proj.weight");
      expect_at(layer.o_weight, h + "self_attn.o_proj.weight");
      expect_at(layer.gate_up_weight, h + "mlp.gate_proj.weight");
      expect_at(layer.down_weight, h + "mlp.down_proj.weight");
      expect_at(layer.input_norm_weight, h + "input_layernorm.weight");
      expect_at(layer.attention_norm_weight, h + "post_attention_layernorm.weight");
    }
    expect_at(view.norm_weight(), "model.norm.weight");
    expect_at(view.head(), tied ? "model.embed_tokens.weight" : "lm_head.weight");
  }
}

TEST(ModelConfig, RefusesImpossibleShapesByName) {
  const auto message = [](auto change, ModelConfig config = tiny_gpt2) {
    change(config);
    try {
      parameters_of(config);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_NE(message([](ModelConfig& c) { c.layers = 0; }).find("n_layer = 0"), std::string::npos);
  EXPECT_NE(message([](ModelConfig& c) { c.heads = 5; }).find("n_embd = 12 is not a multiple of n_head = 5"),
            std::string::npos);
  EXPECT_NE(message([](ModelConfig& c) { c.vocabulary = 65537; }).find("vocab_size = 65537"), std::string::npos);
  EXPECT_NE(message([](ModelConfig& c) { c.channels = size_t{1} << 60; }).find("n_embd"), std::string::npos);
  EXPECT_NE(message([](ModelConfig& c) { c.norm_epsilon = NAN; }).find("layer_norm_epsilon"), std::string::npos);
  const ModelConfig llama = test::llama({1, 4, 2, 16, 10, 7, 20});
  EXPECT_NE(message([](ModelConfig& c) { c.kv_heads = 3; }, llama).find("num_key_value_heads = 3"), std::string::npos);
  EXPECT_NE(message([](ModelConfig& c) { c.kv_heads = 0; }, llama).find("num_key_value_heads = 0"), std::string::npos);
  EXPECT_NE(message([](ModelConfig& c) { c.channels = 12; }, llama).find("hidden_size / num_attention_heads = 3"),
            std::string::npos);
  EXPECT_NE(message([](ModelConfig& c) { c.rope_inverse_frequencies.pop_back(); }, llama).find("rope_inverse"),
            std::string::npos);
  EXPECT_NE(message([](ModelConfig& c) { c.rope_inverse_frequencies[1] = NAN; }, llama).find("rope_inverse"),
            std::string::npos);
}

// Values computed from docs/numerics.md section 8 by a few lines of Python (integers and fp32 rounding only).
TEST(InitialWeights, FollowTheDefinition) {
  std::vector<float> weights(parameter_count(tiny_gpt2));
  initialise_weights(tiny_gpt2, 42, weights.data());
  const std::vector<Parameter> parameters = parameters_of(tiny_gpt2);
  EXPECT_EQ(weights[0], -0x1.337e14p-5f);
  EXPECT_EQ(weights[83], 0x1.b7570ap-7f);
  EXPECT_EQ(weights[parameters[6].offset + 5], -0x1.4287aep-7f);  // h.0.attn.c_proj.weight
  EXPECT_EQ(weights[parameters[2].offset], 1.0f);                 // h.0.ln_1.weight
  EXPECT_EQ(weights[parameters[5].offset], 0.0f);                 // h.0.attn.c_attn.bias
}

TEST(InitialWeights, AreNormalWithTheStandardDeviationAsked) {
  const ModelConfig config{1, 1, 100, 1, 1000, 1, 1e-5f};
  std::vector<float> weights(parameter_count(config));
  initialise_weights(config, 7, weights.data());
  double sum = 0, squares = 0, fourth = 0;
  const size_t count = 100000;  // wte
  for (size_t i = 0; i < count; ++i) {
    const double x = weights[i] / 0.02;
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / count, 0, 0.015);
  EXPECT_NEAR(squares / count, 1, 0.02);
  EXPECT_NEAR(fourth / count, 2.9, 0.15);  // a sum of twelve uniforms: 3 - 1.2 / 12
}

}  // namespace
}  // namespace kernels
