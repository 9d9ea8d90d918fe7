// Optimisers and plain vector arithmetic over a range of elements: one thread's share.
#pragma once

#include <cstddef>
#include <limits>

#include "cpu/layers.h"
#include "cpu/rows.h"
#include "kernels/ops.h"

namespace kernels {

template <class V>
void adamw(const AdamW& op, Range elements) {
  const V beta1 = V::broadcast(op.beta1), beta2 = V::broadcast(op.beta2);
  const V rest1 = V::broadcast(op.one_minus_beta1), rest2 = V::broadcast(op.one_minus_beta2);
  const V minus_step = V::broadcast(-op.step_size), correction = V::broadcast(op.inv_sqrt_bc2);
  const V epsilon = V::broadcast(op.epsilon);
  size_t first = elements.begin;
  for (const TensorEnd* tensor = op.tensors; first < elements.end; ++tensor) {
    const size_t last = tensor->end < elements.end ? tensor->end : elements.end;
    if (last <= first) continue;
    const V decay = V::broadcast(tensor->decays ? op.decay : 1.0f);
    for_each_vector<V>(first, last, [&](size_t i, auto part) {
      const V g = V::load(op.g + i, part);
      const V m = fma(beta1, V::load(op.m + i, part), rest1 * g);
      const V v = fma(beta2, V::load(op.v + i, part), rest2 * g * g);
      const V w = V::load(op.w + i, part) * decay;  // w * 1 is w
      m.store(op.m + i, part);
      v.store(op.v + i, part);
      fma(minus_step, m / fma(sqrt(v), correction, epsilon), w).store(op.w + i, part);
    });
    first = last;
  }
}

template <class V>
void nesterov(const Nesterov& op, Range elements) {
  const V momentum = V::broadcast(op.momentum), minus_lr = V::broadcast(-op.lr);
  for_each_vector<V>(elements.begin, elements.end, [&](size_t i, auto part) {
    const V g = V::load(op.g + i, part);
    const V m = fma(momentum, V::load(op.m + i, part), g);
    m.store(op.m + i, part);
    fma(minus_lr, fma(momentum, m, g), V::load(op.w + i, part)).store(op.w + i, part);
  });
}

template <class V>
void add(const float* x, float* y, Range elements) {
  for_each_vector<V>(elements.begin, elements.end,
                     [&](size_t i, auto part) { (V::load(y + i, part) + V::load(x + i, part)).store(y + i, part); });
}

template <class V>
void scale(float factor, float* y, Range elements) {
  for_each_vector<V>(elements.begin, elements.end,
                     [&](size_t i, auto part) { (V::load(y + i, part) * V::broadcast(factor)).store(y + i, part); });
}

template <class V>
void subtract(const float* a, const float* b, float* out, Range elements) {
  for_each_vector<V>(elements.begin, elements.end,
                     [&](size_t i, auto part) { (V::load(a + i, part) - V::load(b + i, part)).store(out + i, part); });
}

template <class V>
float sum(const float* x, size_t count) {
  return row_sum<V>(count, [&](size_t i, auto part) { return V::load(x + i, part); });
}

template <class V>
float sum_of_squares(const float* x, size_t count) {
  return row_sum<V>(count, [&](size_t i, auto part) {
    const V v = V::load(x + i, part);
    return v * v;
  });
}

// The first element that is not finite, or the end of the range.
template <class V>
size_t first_non_finite(const float* x, Range elements) {
  const V largest = V::broadcast(std::numeric_limits<float>::max()), sign = V::broadcast(-0.0f);
  size_t i = elements.begin;
  for (; i + V::width <= elements.end; i += V::width) {
    const V v = V::load(x + i);
    if (!all((v ^ (v & sign)) <= largest)) break;
  }
  for (; i < elements.end; ++i) {
    if (!(__builtin_fabsf(x[i]) <= std::numeric_limits<float>::max())) break;
  }
  return i;
}

}  // namespace kernels
