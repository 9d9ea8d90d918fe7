// The tensors of GPT-2 inside a flat parameter vector. C channels, F inner, V vocabulary.
#pragma once

#include <cstddef>

#include "kernels/model_config.h"

namespace kernels {

// The tensors of one layer inside a flat parameter vector; T is float or const float.
template <class T>
struct Gpt2Layer {
  T* ln_1_weight;    // (C)
  T* ln_1_bias;      // (C)
  T* attn_weight;    // (C, 3C)
  T* attn_bias;      // (3C)
  T* proj_weight;    // (C, C)
  T* proj_bias;      // (C)
  T* ln_2_weight;    // (C)
  T* ln_2_bias;      // (C)
  T* fc_weight;      // (C, F)
  T* fc_bias;        // (F)
  T* fc_out_weight;  // (F, C)
  T* fc_out_bias;    // (C)
};

// A flat parameter vector by name. Pointers only; follows the order of parameters_of().
template <class T>
class Gpt2Tensors {
 public:
  Gpt2Tensors(const ModelConfig& config, T* base) : config_(config), base_(base) {}

  T* wte() const { return base_; }                                          // (V, C)
  T* wpe() const { return base_ + config_.vocabulary * config_.channels; }  // (positions, C)
  Gpt2Layer<T> layer(size_t index) const {
    const size_t C = config_.channels, F = config_.inner;
    T* next = first_layer() + index * layer_count();
    auto take = [&next](size_t count) {
      T* here = next;
      next += count;
      return here;
    };
    return {take(C), take(C), take(C * 3 * C), take(3 * C), take(C * C), take(C),  // braces evaluate in order
            take(C), take(C), take(C * F),     take(F),     take(F * C), take(C)};
  }
  T* ln_f_weight() const { return first_layer() + config_.layers * layer_count(); }  // (C)
  T* ln_f_bias() const { return ln_f_weight() + config_.channels; }                  // (C)

 private:
  T* first_layer() const { return wpe() + config_.positions * config_.channels; }
  size_t layer_count() const {
    const size_t C = config_.channels, F = config_.inner;
    return 4 * C * C + 2 * C * F + F + 9 * C;
  }

  const ModelConfig& config_;
  T* base_;
};

}  // namespace kernels
