// The definition in code: docs/numerics.md sections 3, 5 and 6, line by line. One thread, no speed.
#include <algorithm>
#include <array>
#include <cmath>

#include "cpu/float_environment.h"
#include "kernels/blocks.h"
#include "kernels/ops.h"
#include "reference/elementary.h"
#include "reference/int8.h"
#include "reference/sums.h"

namespace kernels {
namespace {

using reference::contraction;
using reference::R;
using reference::run_sum;

float maximum(size_t count, const float* x) {
  float m = x[0];
  for (size_t i = 1; i < count; ++i) m = x[i] > m ? x[i] : m;
  return m;
}

// One head of one sequence inside qkv, or inside (T, heads·D) tensors: row t, dimension d at base[t * stride + d].
template <class T>
struct Head {
  T* base;
  size_t stride;
  T& operator()(size_t t, size_t d) const { return base[t * stride + d]; }
};

// Sequence s, query head h of a tensor like `out`; Op is AttentionForward or AttentionBackward.
template <class T, class Op>
Head<T> head_of(const Op& op, T* base, size_t s, size_t h) {
  const size_t row = op.heads * op.head_size;
  return {base + s * op.context * row + h * op.head_size, row};
}

// Query head h and the key and value heads that it uses, of a tensor like `qkv`.
template <class T, class Op>
std::array<Head<T>, 3> heads_of(const Op& op, T* base, size_t s, size_t h) {
  const size_t D = op.head_size, row = (op.heads + 2 * op.kv_heads) * D, kv = h / (op.heads / op.kv_heads);
  T* q = base + s * op.context * row;
  T* k = q + op.heads * D;
  T* v = k + op.kv_heads * D;
  return {Head<T>{q + h * D, row}, Head<T>{k + kv * D, row}, Head<T>{v + kv * D, row}};
}

class ReferenceOps final : public Ops {
 public:
  std::string name() const override { return "reference"; }

  void matmul(const Matmul& p) override {
    if (p.block) return for_each_block(p, [&](const Matmul& one) { matmul(one); });
    const FloatEnvironment environment;
    for (size_t m = 0; m < p.m; ++m)
      for (size_t n = 0; n < p.n; ++n) {
        const float total = contraction(
            p.k, [&](size_t k) { return p.a[m * p.a_row + k * p.a_col]; },
            [&](size_t k) { return p.b[k * p.b_row + n * p.b_col]; });
        put(p, m, n, total);
      }
  }

  void quantise_rows(const Quantise& p) override {
    const FloatEnvironment environment;
    for (size_t row = 0; row < p.rows; ++row) {
      const size_t first = row * p.row;
      p.scales[row] = reference::quantise(
          p.columns, [&](size_t i) { return p.x[first + i]; },
          [&](size_t i, int8_t q, int8_t low) { put_digits(p, first + i, q, low); });
    }
  }

  void quantise_columns(const Quantise& p) override {
    if (p.block) return for_each_block(p, [&](const Quantise& one) { quantise_columns(one); });
    const FloatEnvironment environment;
    for (size_t column = 0; column < p.columns; ++column) {
      const auto x = [&](size_t row) {
        const float value = p.x[row * p.row + column];
        return p.row_factors ? p.row_factors[row] * value : value;
      };
      p.scales[column] = reference::quantise(
          p.rows, x, [&](size_t row, int8_t q, int8_t low) { put_digits(p, row * p.row + column, q, low); });
    }
  }

  void int8_matmul(const Int8Matmul& p) override {
    if (p.block) return for_each_block(p, [&](const Int8Matmul& one) { int8_matmul(one); });
    const FloatEnvironment environment;
    for (size_t m = 0; m < p.m; ++m)
      for (size_t n = 0; n < p.n; ++n) put(p, m, n, reference::dequantised(p, m, n));
  }

  void embedding_forward(const EmbeddingForward& p) override {
    const FloatEnvironment environment;
    for (size_t n = 0; n < p.tokens; ++n)
      for (size_t c = 0; c < p.channels; ++c)
        p.out[n * p.channels + c] = p.wpe ? p.wte[p.ids[n] * p.channels + c] + p.wpe[(n % p.context) * p.channels + c]
                                          : p.wte[p.ids[n] * p.channels + c];
  }

  void embedding_backward(const EmbeddingBackward& p) override {
    if (p.block) return for_each_block(p, [&](const EmbeddingBackward& one) { embedding_backward(one); });
    const FloatEnvironment environment;
    for (size_t v = 0; v < p.vocabulary; ++v)
      add_rows(p, p.dwte + v * p.channels, [&](size_t n) { return p.ids[n] == v; });
    for (size_t t = 0; p.dwpe && t < p.context; ++t)
      add_rows(p, p.dwpe + t * p.channels, [&](size_t n) { return n % p.context == t; });
  }

  void layer_norm_forward(const LayerNormForward& p) override {
    const FloatEnvironment environment;
    const size_t C = p.channels;
    for (size_t row = 0; row < p.rows; ++row) {
      const float* x = p.x + row * C;
      const float mean = R(C, [&](size_t i) { return x[i]; }) / static_cast<float>(C);
      const auto square = [&](size_t i) {
        const float d = x[i] - mean;
        return d * d;
      };
      const float var = R(C, square) / static_cast<float>(C);
      const float rstd = 1.0f / std::sqrt(var + p.epsilon);
      for (size_t i = 0; i < C; ++i) {
        const float n = (x[i] - mean) * rstd;
        p.y[row * C + i] = std::fma(n, p.weight[i], p.bias[i]);
      }
      p.mean[row] = mean;
      p.rstd[row] = rstd;
    }
  }

  void layer_norm_backward(const LayerNormBackward& p) override {
    if (p.block) return for_each_block(p, [&](const LayerNormBackward& one) { layer_norm_backward(one); });
    const FloatEnvironment environment;
    const size_t C = p.channels;
    const auto n = [&](size_t row, size_t i) { return (p.x[row * C + i] - p.mean[row]) * p.rstd[row]; };
    for (size_t i = 0; i < C; ++i) {
      p.dweight[i] = p.dweight[i] + run_sum(p.rows, [&](size_t row) { return p.dy[row * C + i] * n(row, i); });
      p.dbias[i] = p.dbias[i] + run_sum(p.rows, [&](size_t row) { return p.dy[row * C + i]; });
    }
    for (size_t row = 0; row < p.rows; ++row) {
      const auto dn = [&](size_t i) { return p.dy[row * C + i] * p.weight[i]; };
      const float a = R(C, dn) / static_cast<float>(C);
      const float b = R(C, [&](size_t i) { return dn(i) * n(row, i); }) / static_cast<float>(C);
      for (size_t i = 0; i < C; ++i) {
        const float dx = std::fma(-n(row, i), b, dn(i) - a) * p.rstd[row];
        p.dx[row * C + i] = p.dresidual ? dx + p.dresidual[row * C + i] : dx;
      }
    }
  }

  void rms_norm_forward(const RmsNormForward& p) override {
    const FloatEnvironment environment;
    const size_t C = p.channels;
    for (size_t row = 0; row < p.rows; ++row) {
      const float* x = p.x + row * C;
      const float square = R(C, [&](size_t i) { return x[i] * x[i]; }) / static_cast<float>(C);
      p.rstd[row] = 1.0f / std::sqrt(square + p.epsilon);
      for (size_t i = 0; i < C; ++i) p.y[row * C + i] = (x[i] * p.rstd[row]) * p.weight[i];
    }
  }

  void rms_norm_backward(const RmsNormBackward& p) override {
    if (p.block) return for_each_block(p, [&](const RmsNormBackward& one) { rms_norm_backward(one); });
    const FloatEnvironment environment;
    const size_t C = p.channels;
    const auto n = [&](size_t row, size_t i) { return p.x[row * C + i] * p.rstd[row]; };
    for (size_t i = 0; i < C; ++i)
      p.dweight[i] = p.dweight[i] + run_sum(p.rows, [&](size_t row) { return p.dy[row * C + i] * n(row, i); });
    for (size_t row = 0; row < p.rows; ++row) {
      const auto dn = [&](size_t i) { return p.dy[row * C + i] * p.weight[i]; };
      const float b = R(C, [&](size_t i) { return dn(i) * n(row, i); }) / static_cast<float>(C);
      for (size_t i = 0; i < C; ++i) {
        const float dx = std::fma(-n(row, i), b, dn(i)) * p.rstd[row];
        p.dx[row * C + i] = p.dresidual ? dx + p.dresidual[row * C + i] : dx;
      }
    }
  }

  void bias_backward(const BiasBackward& p) override {
    if (p.block) return for_each_block(p, [&](const BiasBackward& one) { bias_backward(one); });
    const FloatEnvironment environment;
    for (size_t j = 0; j < p.channels; ++j)
      p.dbias[j] = p.dbias[j] + run_sum(p.rows, [&](size_t n) { return p.dy[n * p.channels + j]; });
  }

  void gelu_forward(const GeluForward& p) override {
    const FloatEnvironment environment;
    for (size_t i = 0; i < p.count; ++i) {
      const float x = p.x[i], t = gelu_tanh(x);
      p.y[i] = (0.5f * x) * (1.0f + t);
    }
  }

  void gelu_backward(const GeluBackward& p) override {
    const FloatEnvironment environment;
    for (size_t i = 0; i < p.count; ++i) {
      const float x = p.x[i], t = gelu_tanh(x);
      const float h = 0.5f * x;
      const float q = std::fma(x * x, 0.134145f, 1.0f) * 0.7978845608028654f;
      const float u = std::fma(-t, t, 1.0f);
      p.dx[i] = p.dy[i] * std::fma(h * u, q, std::fma(0.5f, t, 0.5f));
    }
  }

  void swiglu_forward(const SwigluForward& p) override {
    const FloatEnvironment environment;
    for (size_t row = 0; row < p.rows; ++row)
      for (size_t i = 0; i < p.inner; ++i) {
        const float x = p.gate_up[2 * row * p.inner + i], up = p.gate_up[(2 * row + 1) * p.inner + i];
        p.y[row * p.inner + i] = (x * sigmoid(x)) * up;
      }
  }

  void swiglu_backward(const SwigluBackward& p) override {
    const FloatEnvironment environment;
    for (size_t row = 0; row < p.rows; ++row)
      for (size_t i = 0; i < p.inner; ++i) {
        const float x = p.gate_up[2 * row * p.inner + i], up = p.gate_up[(2 * row + 1) * p.inner + i];
        const float dy = p.dy[row * p.inner + i], s = sigmoid(x);
        p.dgate_up[2 * row * p.inner + i] = (dy * up) * (s * std::fma(x, 1.0f - s, 1.0f));
        p.dgate_up[(2 * row + 1) * p.inner + i] = dy * (x * s);
      }
  }

  void rope(const Rope& p) override {
    const FloatEnvironment environment;
    const size_t half = p.head_size / 2;
    for (size_t n = 0; n < p.tokens; ++n)
      for (size_t h = 0; h < p.heads; ++h)
        for (size_t j = 0; j < half; ++j) {
          float& a = p.x[n * p.row + h * p.head_size + j];
          float& b = p.x[n * p.row + h * p.head_size + j + half];
          const float c = p.cos[(n % p.context) * half + j], s = p.sin[(n % p.context) * half + j];
          const float before = a, sine = p.back ? -s : s;
          a = std::fma(before, c, -(b * sine));
          b = std::fma(b, c, before * sine);
        }
  }

  void attention_forward(const AttentionForward& p) override {
    const FloatEnvironment environment;
    const size_t T = p.context, D = p.head_size;
    const float scale = 1.0f / std::sqrt(static_cast<float>(D));
    float* e = p.workspace;  // (T): scores, then their exponentials
    for (size_t s = 0; s < p.sequences; ++s)
      for (size_t h = 0; h < p.heads; ++h) {
        const auto qkv = heads_of<const float>(p, p.qkv, s, h);
        const Head<const float> q = qkv[0], k = qkv[1], v = qkv[2];
        const Head<float> o = head_of<float>(p, p.out, s, h);
        for (size_t i = 0; i < T; ++i) {
          const size_t keys = i + 1;
          for (size_t j = 0; j < keys; ++j) e[j] = score(q, k, i, j, D) * scale;
          const float m = maximum(keys, e);
          for (size_t j = 0; j < keys; ++j) e[j] = reference::exp(e[j] - m);
          const float l = R(keys, [&](size_t j) { return e[j]; });
          const float inv = 1.0f / l;
          for (size_t d = 0; d < D; ++d)
            o(i, d) = contraction(
                          keys, [&](size_t j) { return e[j]; }, [&](size_t j) { return v(j, d); }) *
                      inv;
          p.row_max[(s * p.heads + h) * T + i] = m;
          p.inverse_sum[(s * p.heads + h) * T + i] = inv;
        }
      }
  }

  void attention_backward(const AttentionBackward& p) override {
    const FloatEnvironment environment;
    const size_t T = p.context, D = p.head_size, group = p.heads / p.kv_heads;
    const float scale = 1.0f / std::sqrt(static_cast<float>(D));
    float* P = p.workspace;  // (T, T): row i query, column j key; 0 where masked
    float* dS = P + T * T;   // (T, T)
    for (size_t s = 0; s < p.sequences; ++s)
      for (size_t h = 0; h < p.heads; ++h) {
        const auto qkv = heads_of<const float>(p, p.qkv, s, h);
        const Head<const float> q = qkv[0], k = qkv[1], v = qkv[2];
        const auto [dq, dk, dv] = heads_of<float>(p, p.dqkv, s, h);
        const Head<const float> o = head_of<const float>(p, p.out, s, h), dout = head_of<const float>(p, p.dout, s, h);
        for (size_t i = 0; i < T; ++i) {
          const float m = p.row_max[(s * p.heads + h) * T + i], inv = p.inverse_sum[(s * p.heads + h) * T + i];
          const float Di = R(D, [&](size_t d) { return dout(i, d) * o(i, d); });
          for (size_t j = 0; j <= i; ++j) {
            const float e = reference::exp(score(q, k, i, j, D) * scale - m);
            P[i * T + j] = e * inv;
            const float dP = score(dout, v, i, j, D);
            dS[i * T + j] = P[i * T + j] * (dP - Di);
          }
        }
        for (size_t t = 0; t < T; ++t)
          for (size_t d = 0; d < D; ++d) {
            // Keys beyond the query contribute exact zeros: dq stops at its own key. dk and dv skip the queries
            // before their key, which keeps the chunks of the contraction where they are.
            const auto from_key = [&](const float* x, size_t i) { return i < t ? 0.0f : x[i * T + t]; };
            dq(t, d) = contraction(
                           t + 1, [&](size_t j) { return dS[t * T + j]; }, [&](size_t j) { return k(j, d); }) *
                       scale;
            const float dk_h = contraction(
                T, [&](size_t i) { return from_key(dS, i); }, [&](size_t i) { return q(i, d); });
            const float dv_h = contraction(
                T, [&](size_t i) { return from_key(P, i); }, [&](size_t i) { return dout(i, d); });
            // Heads that share keys are added upward, then scaled.
            const bool first = h % group == 0, last = h % group == group - 1;
            dk(t, d) = (first ? 0.0f : dk(t, d)) + dk_h;
            dv(t, d) = (first ? 0.0f : dv(t, d)) + dv_h;
            if (last) dk(t, d) = dk(t, d) * scale;
          }
      }
  }

  void cross_entropy(const CrossEntropy& p) override {
    const FloatEnvironment environment;
    for (size_t n = 0; n < p.rows; ++n) {
      float* x = p.logits + n * p.row;
      const size_t target = p.targets[n];
      const float m = maximum(p.vocabulary, x);
      const auto e = [&](size_t v) { return reference::exp(x[v] - m); };
      const float s = R(p.vocabulary, e);
      p.losses[n] = reference::log(s) + (m - x[target]);
      if (p.scale_gradient == 0) continue;
      const float inv = 1.0f / s;
      for (size_t v = 0; v < p.vocabulary; ++v) x[v] = (e(v) * inv - (v == target ? 1.0f : 0.0f)) * p.scale_gradient;
    }
  }

  void adamw(const AdamW& p) override {
    const FloatEnvironment environment;
    size_t i = 0;
    for (size_t t = 0; t < p.tensor_count; ++t)
      for (; i < p.tensors[t].end; ++i) {
        const float g = p.g[i];
        p.m[i] = std::fma(p.beta1, p.m[i], p.one_minus_beta1 * g);
        p.v[i] = std::fma(p.beta2, p.v[i], (p.one_minus_beta2 * g) * g);
        if (p.tensors[t].decays) p.w[i] = p.w[i] * p.decay;
        p.w[i] = std::fma(-p.step_size, p.m[i] / std::fma(std::sqrt(p.v[i]), p.inv_sqrt_bc2, p.epsilon), p.w[i]);
      }
  }

  void nesterov(const Nesterov& p) override {
    const FloatEnvironment environment;
    for (size_t i = 0; i < p.count; ++i) {
      p.m[i] = std::fma(p.momentum, p.m[i], p.g[i]);
      p.w[i] = std::fma(-p.lr, std::fma(p.momentum, p.m[i], p.g[i]), p.w[i]);
    }
  }

  float row_sum(const float* x, size_t count) override {
    const FloatEnvironment environment;
    return R(count, [&](size_t i) { return x[i]; });
  }
  void sums_of_squares(const TensorEnd* tensors, size_t tensor_count, const float* x, float* sums) override {
    const FloatEnvironment environment;
    size_t first = 0;
    for (size_t t = 0; t < tensor_count; first = tensors[t++].end)
      sums[t] = R(tensors[t].end - first, [&](size_t i) { return x[first + i] * x[first + i]; });
  }
  void add(const float* x, float* y, size_t count) override {
    const FloatEnvironment environment;
    for (size_t i = 0; i < count; ++i) y[i] = y[i] + x[i];
  }
  void scale(float factor, float* y, size_t count) override {
    const FloatEnvironment environment;
    for (size_t i = 0; i < count; ++i) y[i] = y[i] * factor;
  }
  void subtract(const float* a, const float* b, float* out, size_t count) override {
    const FloatEnvironment environment;
    for (size_t i = 0; i < count; ++i) out[i] = a[i] - b[i];
  }
  size_t first_non_finite(const float* x, size_t count) override {
    const FloatEnvironment environment;
    size_t i = 0;
    while (i < count && std::isfinite(x[i])) ++i;
    return i;
  }

  size_t attention_workspace(size_t, size_t context, size_t) const override { return 2 * context * context; }
  size_t embedding_workspace(size_t, size_t channels) const override { return channels; }
  size_t own_bytes() const override { return 0; }

 private:
  // The end of a product, Matmul or Int8Matmul.
  template <class Product>
  static void put(const Product& p, size_t m, size_t n, float y) {
    float& c = p.c[m * p.ldc + n];
    if (p.bias) y = y + p.bias[n];
    if (p.residual) y = y + p.residual[m * p.ldc + n];
    c = p.accumulate ? c + y : y;
  }

  static void put_digits(const Quantise& p, size_t at, int8_t q, int8_t low) {
    p.q[at] = q;
    if (p.low) p.low[at] = low;
  }

  // target (C) = target + (the chosen tokens' rows of dout, added upward from +0).
  template <class Chosen>
  static void add_rows(const EmbeddingBackward& p, float* target, Chosen chosen) {
    float* sum = p.workspace;  // (C)
    std::fill_n(sum, p.channels, 0.0f);
    for (size_t n = 0; n < p.tokens; ++n) {
      if (!chosen(n)) continue;
      for (size_t c = 0; c < p.channels; ++c) sum[c] = sum[c] + p.dout[n * p.channels + c];
    }
    for (size_t c = 0; c < p.channels; ++c) target[c] = target[c] + sum[c];
  }

  // Contraction over the head's dimensions of a's row i and b's row j.
  static float score(const Head<const float>& a, const Head<const float>& b, size_t i, size_t j, size_t D) {
    return contraction(
        D, [&](size_t d) { return a(i, d); }, [&](size_t d) { return b(j, d); });
  }

  static float sigmoid(float x) { return 1.0f / (1.0f + reference::exp(-x)); }

  static float gelu_tanh(float x) {
    const float z = (x * std::fma(x * x, 0.044715f, 1.0f)) * 0.7978845608028654f;
    return reference::tanh(z);
  }
};

}  // namespace

std::unique_ptr<Ops> make_reference_ops() { return std::make_unique<ReferenceOps>(); }

}  // namespace kernels
