// The shape of a model and the order of its parameters. Pure data; no I/O.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace kernels {

enum class Family { gpt2, llama };

// With the names of Hugging Face's GPT2Config | LlamaConfig in comments.
struct ModelConfig {
  size_t layers = 0;           // n_layer | num_hidden_layers
  size_t heads = 0;            // n_head | num_attention_heads; divides channels
  size_t channels = 0;         // n_embd | hidden_size
  size_t positions = 0;        // n_positions | max_position_embeddings, the longest context
  size_t vocabulary = 0;       // vocab_size, at most 65,536 (tokens are uint16)
  size_t inner = 0;            // n_inner | intermediate_size, width of the MLP
  float norm_epsilon = 1e-5f;  // layer_norm_epsilon | rms_norm_eps

  Family family = Family::gpt2;
  // LLaMA only.
  size_t kv_heads = 0;    // num_key_value_heads; divides heads
  bool tied_head = true;  // tie_word_embeddings; GPT-2's head is always tied
  // (head size / 2): the angle of pair j at position t is t * rope_inverse_frequencies[j], linear scaling included.
  std::vector<float> rope_inverse_frequencies = {};
  // What config.json says they come from, for other readers of it; the mathematics uses the frequencies alone.
  double rope_theta = 10000;      // rope_theta
  double rope_linear_factor = 1;  // rope_scaling's factor; 1: no scaling

  size_t head_size() const { return channels / heads; }
  const char* positions_key() const { return family == Family::llama ? "max_position_embeddings" : "n_positions"; }
};

// One tensor inside the flat parameter vector.
struct Parameter {
  std::string name;           // Hugging Face name, e.g. "transformer.h.0.attn.c_attn.weight"
  std::vector<size_t> shape;  // row-major
  size_t offset = 0;          // first element in the flat vector
  size_t count = 0;           // elements
  bool decays() const { return shape.size() >= 2; }
};

// The canonical order: the order of GPT2LMHeadModel's or LlamaForCausalLM's named_parameters() (a tied head left out).
// The token embedding is the first.
// Offsets are contiguous from 0. Throws std::invalid_argument naming the field for an impossible shape.
std::vector<Parameter> parameters_of(const ModelConfig& config);

size_t parameter_count(const ModelConfig& config);

// Floating-point operations of forward and backward per token at a context: 6N + 6 * layers * context * channels.
double training_flops_per_token(const ModelConfig& config, size_t context);

// Seeded initial weights, docs/numerics.md section 8. weights: (parameter_count).
void initialise_weights(const ModelConfig& config, unsigned long long seed, float* weights);

}  // namespace kernels
