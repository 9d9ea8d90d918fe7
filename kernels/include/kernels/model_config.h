// The shape of a model and the order of its parameters. Pure data; no I/O.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace kernels {

// GPT-2, with the names of Hugging Face's GPT2Config in comments.
struct ModelConfig {
  size_t layers = 0;           // n_layer
  size_t heads = 0;            // n_head; divides channels
  size_t channels = 0;         // n_embd
  size_t positions = 0;        // n_positions, the longest context
  size_t vocabulary = 0;       // vocab_size, at most 65,536 (tokens are uint16)
  size_t inner = 0;            // n_inner, width of the MLP (4 * channels when the config says null)
  float norm_epsilon = 1e-5f;  // layer_norm_epsilon
};

// One tensor inside the flat parameter vector.
struct Parameter {
  std::string name;           // Hugging Face name, e.g. "transformer.h.0.attn.c_attn.weight"
  std::vector<size_t> shape;  // row-major
  size_t offset = 0;          // first element in the flat vector
  size_t count = 0;           // elements
  bool decays() const { return shape.size() >= 2; }
};

// The canonical order: the order of GPT2LMHeadModel.named_parameters() (tied head left out).
// Offsets are contiguous from 0. Throws std::invalid_argument naming the field for an impossible shape.
std::vector<Parameter> parameters_of(const ModelConfig& config);

size_t parameter_count(const ModelConfig& config);

// Floating-point operations of forward and backward per token at a context: 6N + 6 * layers * context * channels.
double training_flops_per_token(const ModelConfig& config, size_t context);

// Seeded initial weights, docs/numerics.md section 8. weights: (parameter_count).
void initialise_weights(const ModelConfig& config, unsigned long long seed, float* weights);

}  // namespace kernels
