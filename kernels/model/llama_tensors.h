// The tensors of LLaMA inside a flat parameter vector, as torch's nn.Linear has them: (outputs, inputs). q|k|v and
// gate|up lie side by side. C channels, E = (H + 2K)·D outputs of q|k|v, F inner, V vocabulary.
#pragma once

#include <cstddef>

#include "kernels/model_config.h"

namespace kernels {

// One layer; T is float or const float.
template <class T>
struct LlamaLayer {
  T* qkv_weight;             // (E, C)
  T* o_weight;               // (C, C)
  T* gate_up_weight;         // (2F, C)
  T* down_weight;            // (C, F)
  T* input_norm_weight;      // (C)
  T* attention_norm_weight;  // (C), of post_attention_layernorm
};

// A flat parameter vector by name. Pointers only; follows the order of parameters_of().
template <class T>
class LlamaTensors {
 public:
  LlamaTensors(const ModelConfig& config, T* base) : config_(config), base_(base) {}

  T* embedding() const { return base_; }  // (V, C)
  LlamaLayer<T> layer(size_t index) const {
    const size_t C = config_.channels, F = config_.inner;
    T* next = first_layer() + index * layer_count();
    auto take = [&next](size_t count) {
      T* here = next;
      next += count;
      return here;
    };
    return {take(qkv_outputs() * C), take(C * C), take(2 * F * C), take(C * F), take(C), take(C)};
  }
  T* norm_weight() const { return first_layer() + config_.layers * layer_count(); }                   // (C)
  T* head() const { return config_.tied_head ? embedding() : norm_weight() + config_.channels; }      // (V, C)

 private:
  T* first_layer() const { return base_ + config_.vocabulary * config_.channels; }
  size_t qkv_outputs() const { return (config_.heads + 2 * config_.kv_heads) * config_.head_size(); }
  size_t layer_count() const {
    const size_t C = config_.channels, F = config_.inner;
    return (qkv_outputs() + C + 3 * F + 2) * C;
  }

  const ModelConfig& config_;
  T* base_;
};

}  // namespace kernels
