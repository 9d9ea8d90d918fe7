// Embeddings, layer norm, GELU, biases and cross-entropy over a range of rows, columns or elements: one thread's share.
#pragma once

#include <cstddef>
#include <type_traits>

#include "cpu/elementary.h"
#include "cpu/rows.h"
#include "kernels/ops.h"

namespace kernels {

// A share of the work: [begin, end).
struct Range {
  size_t begin, end;
};

template <class V, class P>
void add_to(float* x, V v, P part) {
  (V::load(x, part) + v).store(x, part);
}

template <class V>
void embedding_forward(const EmbeddingForward& op, Range tokens) {
  for (size_t n = tokens.begin; n < tokens.end; ++n) {
    const float* token = op.wte + op.ids[n] * op.channels;
    float* out = op.out + n * op.channels;
    for_each_vector<V>(0, op.channels, [&](size_t j, auto part) {
      V x = V::load(token + j, part);
      if (op.wpe) x = x + V::load(op.wpe + n % op.context * op.channels + j, part);
      x.store(out + j, part);
    });
  }
}

// Token rows: every token whose row was not seen before gathers the later ones of its row.
template <class V>
void embedding_backward_tokens(const EmbeddingBackward& op, Range columns) {
  float* sum = op.workspace;
  for (size_t n = 0; n < op.tokens; ++n) {
    const uint16_t id = op.ids[n];
    bool seen = false;
    for (size_t i = 0; i < n && !seen; ++i) seen = op.ids[i] == id;
    if (seen) continue;
    for (size_t j = columns.begin; j < columns.end; ++j) sum[j] = 0;
    for (size_t i = n; i < op.tokens; ++i) {
      if (op.ids[i] != id) continue;
      const float* row = op.dout + i * op.channels;
      for_each_vector<V>(columns.begin, columns.end,
                         [&](size_t j, auto part) { add_to(sum + j, V::load(row + j, part), part); });
    }
    float* out = op.dwte + id * op.channels;
    for_each_vector<V>(columns.begin, columns.end,
                       [&](size_t j, auto part) { add_to(out + j, V::load(sum + j, part), part); });
  }
}

template <class V>
void embedding_backward_positions(const EmbeddingBackward& op, Range positions) {
  for (size_t t = positions.begin; t < positions.end; ++t) {
    float* out = op.dwpe + t * op.channels;
    for_each_vector<V>(0, op.channels, [&](size_t j, auto part) {
      V sum = V::zero();
      for (size_t n = t; n < op.tokens; n += op.context) sum = sum + V::load(op.dout + n * op.channels + j, part);
      add_to(out + j, sum, part);
    });
  }
}

template <class V>
void layer_norm_forward(const LayerNormForward& op, Range rows) {
  const float c = static_cast<float>(op.channels);
  for (size_t n = rows.begin; n < rows.end; ++n) {
    const float* x = op.x + n * op.channels;
    float* y = op.y + n * op.channels;
    const float mean = row_sum<V>(op.channels, [&](size_t j, auto part) { return V::load(x + j, part); }) / c;
    const V m = V::broadcast(mean);
    const float variance = row_sum<V>(op.channels,
                                      [&](size_t j, auto part) {
                                        const V d = V::load(x + j, part) - m;
                                        return d * d;
                                      }) /
                           c;
    const float rstd = 1 / __builtin_sqrtf(variance + op.epsilon);
    const V r = V::broadcast(rstd);
    for_each_vector<V>(0, op.channels, [&](size_t j, auto part) {
      const V normal = (V::load(x + j, part) - m) * r;
      fma(normal, V::load(op.weight + j, part), V::load(op.bias + j, part)).store(y + j, part);
    });
    op.mean[n] = mean;
    op.rstd[n] = rstd;
  }
}

template <class V>
void layer_norm_backward_rows(const LayerNormBackward& op, Range rows) {
  const float c = static_cast<float>(op.channels);
  for (size_t n = rows.begin; n < rows.end; ++n) {
    const size_t row = n * op.channels;
    const V mean = V::broadcast(op.mean[n]), rstd = V::broadcast(op.rstd[n]);
    const auto dn = [&](size_t j, auto part) { return V::load(op.dy + row + j, part) * V::load(op.weight + j, part); };
    const auto normal = [&](size_t j, auto part) { return (V::load(op.x + row + j, part) - mean) * rstd; };
    const V a = V::broadcast(row_sum<V>(op.channels, dn) / c);
    const V b =
        V::broadcast(row_sum<V>(op.channels, [&](size_t j, auto part) { return dn(j, part) * normal(j, part); }) / c);
    for_each_vector<V>(0, op.channels, [&](size_t j, auto part) {
      V dx = fma(-normal(j, part), b, dn(j, part) - a) * rstd;
      if (op.dresidual) dx = dx + V::load(op.dresidual + row + j, part);
      dx.store(op.dx + row + j, part);
    });
  }
}

// Adds to each out[i] the run sums over rows of a range of columns. add_row(n, j, vectors, part, acc) adds row n's
// columns from j on to vectors() accumulators of each sum. A block of columns goes through all rows, so that the pages
// of a run stay in reach.
template <class V, size_t sums, class F>
void add_run_sums(size_t rows, Range columns, float* const (&out)[sums], F add_row) {
  constexpr size_t run = 64, block = 256, group = 8 / sums;
  for (size_t first = columns.begin; first < columns.end; first += block) {
    const size_t last = columns.end - first < block ? columns.end : first + block;
    float total[sums][block] = {};
    for (size_t n0 = 0; n0 < rows; n0 += run) {
      const size_t n1 = rows - n0 < run ? rows : n0 + run;
      const auto add_run = [&](size_t j, auto vectors, auto part) {
        V acc[sums * vectors()];
        for (V& a : acc) a = V::zero();
        for (size_t n = n0; n < n1; ++n) add_row(n, j, vectors, part, acc);
        for (size_t i = 0; i < sums * vectors(); ++i) {
          add_to(total[i / vectors()] + j - first + i % vectors() * V::width, acc[i], part);
        }
      };
      size_t j = first;
      for (; j + group * V::width <= last; j += group * V::width) {
        add_run(j, std::integral_constant<size_t, group>{}, Whole{});
      }
      for_each_vector<V>(j, last, [&](size_t i, auto part) { add_run(i, std::integral_constant<size_t, 1>{}, part); });
    }
    for (size_t i = 0; i < sums; ++i) {
      for_each_vector<V>(first, last,
                         [&](size_t j, auto part) { add_to(out[i] + j, V::load(total[i] + j - first, part), part); });
    }
  }
}

template <class V>
void layer_norm_backward_columns(const LayerNormBackward& op, Range columns) {
  add_run_sums<V, 2>(op.rows, columns, {op.dweight, op.dbias},
                     [&](size_t n, size_t j, auto vectors, auto part, V* acc) {
                       const V mean = V::broadcast(op.mean[n]), rstd = V::broadcast(op.rstd[n]);
                       for (size_t i = 0; i < vectors(); ++i) {
                         const size_t at = n * op.channels + j + i * V::width;
                         const V dy = V::load(op.dy + at, part);
                         acc[i] = acc[i] + dy * ((V::load(op.x + at, part) - mean) * rstd);
                         acc[vectors() + i] = acc[vectors() + i] + dy;
                       }
                     });
}

template <class V>
void bias_backward(const BiasBackward& op, Range columns) {
  add_run_sums<V, 1>(op.rows, columns, {op.dbias}, [&](size_t n, size_t j, auto vectors, auto part, V* acc) {
    const float* row = op.dy + n * op.channels + j;
    for (size_t i = 0; i < vectors(); ++i) acc[i] = acc[i] + V::load(row + i * V::width, part);
  });
}

template <class V>
V gelu_tanh(V x) {
  return tanh(x * fma(x * x, V::broadcast(0.044715f), V::broadcast(1)) * V::broadcast(0.7978845608028654f));
}

template <class V>
void gelu_forward(const GeluForward& op, Range elements) {
  for_each_vector<V>(elements.begin, elements.end, [&](size_t j, auto part) {
    const V x = V::load(op.x + j, part);
    (V::broadcast(0.5f) * x * (V::broadcast(1) + gelu_tanh(x))).store(op.y + j, part);
  });
}

template <class V>
void gelu_backward(const GeluBackward& op, Range elements) {
  for_each_vector<V>(elements.begin, elements.end, [&](size_t j, auto part) {
    const V one = V::broadcast(1), half = V::broadcast(0.5f);
    const V x = V::load(op.x + j, part);
    const V t = gelu_tanh(x);
    const V h = half * x;
    const V q = fma(x * x, V::broadcast(0.134145f), one) * V::broadcast(0.7978845608028654f);
    const V u = fma(-t, t, one);
    (V::load(op.dy + j, part) * fma(h * u, q, fma(half, t, half))).store(op.dx + j, part);
  });
}

template <class V>
void cross_entropy(const CrossEntropy& op, Range rows) {
  for (size_t n = rows.begin; n < rows.end; ++n) {
    float* x = op.logits + n * op.row;
    const float max = row_max<V>(x, op.vocabulary);
    const float at_target = x[op.targets[n]];
    const bool gradient = op.scale_gradient != 0;
    const V m = V::broadcast(max);
    const float sum = row_sum<V>(op.vocabulary, [&](size_t j, auto part) {
      const V e = exp(V::load(x + j, part) - m);
      if (gradient) e.store(x + j, part);
      return e;
    });
    op.losses[n] = log<V>(sum) + (max - at_target);
    if (!gradient) continue;
    const float inverse = 1 / sum;
    const float target = (x[op.targets[n]] * inverse - 1) * op.scale_gradient;
    for_each_vector<V>(0, op.vocabulary, [&](size_t j, auto part) {
      (V::load(x + j, part) * V::broadcast(inverse) * V::broadcast(op.scale_gradient)).store(x + j, part);
    });
    x[op.targets[n]] = target;
  }
}

}  // namespace kernels
