// RMS norm, SwiGLU and rotary positions over a range of rows or columns: one thread's share.
#pragma once

#include <cstddef>

#include "cpu/elementary.h"
#include "cpu/layers.h"
#include "cpu/rows.h"
#include "kernels/ops.h"

namespace kernels {

template <class V>
void rms_norm_forward(const RmsNormForward& op, Range rows) {
  for (size_t n = rows.begin; n < rows.end; ++n) {
    const float* x = op.x + n * op.channels;
    float* y = op.y + n * op.channels;
    const float square = row_sum<V>(op.channels,
                                    [&](size_t j, auto part) {
                                      const V v = V::load(x + j, part);
                                      return v * v;
                                    }) /
                         static_cast<float>(op.channels);
    const float rstd = 1 / __builtin_sqrtf(square + op.epsilon);
    for_each_vector<V>(0, op.channels, [&](size_t j, auto part) {
      (V::load(x + j, part) * V::broadcast(rstd) * V::load(op.weight + j, part)).store(y + j, part);
    });
    op.rstd[n] = rstd;
  }
}

template <class V>
void rms_norm_backward_rows(const RmsNormBackward& op, Range rows) {
  for (size_t n = rows.begin; n < rows.end; ++n) {
    const size_t row = n * op.channels;
    const V rstd = V::broadcast(op.rstd[n]);
    const auto dn = [&](size_t j, auto part) { return V::load(op.dy + row + j, part) * V::load(op.weight + j, part); };
    const auto normal = [&](size_t j, auto part) { return V::load(op.x + row + j, part) * rstd; };
    const V b = V::broadcast(
        row_sum<V>(op.channels, [&](size_t j, auto part) { return dn(j, part) * normal(j, part); }) /
        static_cast<float>(op.channels));
    for_each_vector<V>(0, op.channels, [&](size_t j, auto part) {
      V dx = fma(-normal(j, part), b, dn(j, part)) * rstd;
      if (op.dresidual) dx = dx + V::load(op.dresidual + row + j, part);
      dx.store(op.dx + row + j, part);
    });
  }
}

template <class V>
void rms_norm_backward_columns(const RmsNormBackward& op, Range columns) {
  add_run_sums<V, 1>(op.rows, columns, {op.dweight}, [&](size_t n, size_t j, auto vectors, auto part, V* acc) {
    const V rstd = V::broadcast(op.rstd[n]);
    for (size_t i = 0; i < vectors(); ++i) {
      const size_t at = n * op.channels + j + i * V::width;
      acc[i] = acc[i] + V::load(op.dy + at, part) * (V::load(op.x + at, part) * rstd);
    }
  });
}

template <class V>
V sigmoid(V x) {
  const V one = V::broadcast(1);
  return one / (one + exp(-x));
}

template <class V>
void swiglu_forward(const SwigluForward& op, Range rows) {
  for (size_t n = rows.begin; n < rows.end; ++n) {
    const float* gate = op.gate_up + 2 * n * op.inner;
    const float* up = gate + op.inner;
    for_each_vector<V>(0, op.inner, [&](size_t j, auto part) {
      const V x = V::load(gate + j, part);
      (x * sigmoid(x) * V::load(up + j, part)).store(op.y + n * op.inner + j, part);
    });
  }
}

template <class V>
void swiglu_backward(const SwigluBackward& op, Range rows) {
  const V one = V::broadcast(1);
  for (size_t n = rows.begin; n < rows.end; ++n) {
    const size_t gate = 2 * n * op.inner, up = gate + op.inner;
    for_each_vector<V>(0, op.inner, [&](size_t j, auto part) {
      const V x = V::load(op.gate_up + gate + j, part), u = V::load(op.gate_up + up + j, part);
      const V dy = V::load(op.dy + n * op.inner + j, part);
      const V s = sigmoid(x);
      (dy * u * (s * fma(x, one - s, one))).store(op.dgate_up + gate + j, part);
      (dy * (x * s)).store(op.dgate_up + up + j, part);
    });
  }
}

template <class V>
void rope(const Rope& op, Range tokens) {
  const size_t half = op.head_size / 2;
  const V sign = V::broadcast(op.back ? -0.0f : 0.0f);
  for (size_t n = tokens.begin; n < tokens.end; ++n) {
    const float* cos = op.cos + n % op.context * half;
    const float* sin = op.sin + n % op.context * half;
    for (size_t h = 0; h < op.heads; ++h) {
      float* x = op.x + n * op.row + h * op.head_size;
      for_each_vector<V>(0, half, [&](size_t j, auto part) {
        const V a = V::load(x + j, part), b = V::load(x + half + j, part);
        const V c = V::load(cos + j, part), s = V::load(sin + j, part) ^ sign;
        fma(a, c, -(b * s)).store(x + j, part);
        fma(b, c, a * s).store(x + half + j, part);
      });
    }
  }
}

}  // namespace kernels
