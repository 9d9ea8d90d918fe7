// Every operation gives the same bits on every path, at every thread count, over random odd shapes.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <span>
#include <string>

#include "ops_test_util.h"

namespace kernels {
namespace {

using test::engines;
using test::expect_same;
using test::joined;
using test::poisoned;
using test::Random;
using test::Values;

void check_matmul(Random& random, size_t m, size_t n, size_t k) {
  const bool a_transposed = random.between(0, 1), b_transposed = random.between(0, 1);
  const size_t lda = (a_transposed ? m : k) + random.between(0, 3), ldb = (b_transposed ? k : n) + random.between(0, 3);
  const size_t ldc = n + random.between(0, 3);
  // One element at least: an engine may reckon with addresses in an empty contraction's operands.
  const Values a = random.values(lda * (a_transposed ? k : m) + 1), b = random.values(ldb * (b_transposed ? n : k) + 1);
  const Values c0 = random.values(m * ldc), bias = random.values(n), residual = random.values(m * ldc);
  const size_t epilogue = random.between(0, 4);
  expect_same("matmul " + std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k), [&](Ops& ops) {
    Values c = c0;
    Matmul op{.m = m, .n = n, .k = k, .a = a.data(), .b = b.data(), .c = c.data(), .ldc = ldc};
    op.a_row = a_transposed ? 1 : lda, op.a_col = a_transposed ? lda : 1;
    op.b_row = b_transposed ? 1 : ldb, op.b_col = b_transposed ? ldb : 1;
    if (epilogue == 1 || epilogue == 2) op.bias = bias.data();
    if (epilogue == 2) op.residual = residual.data();
    if (epilogue == 3) op.residual = c.data();
    if (epilogue == 4) op.accumulate = true;
    ops.matmul(op);
    return c;
  });
}

TEST(Ops, MatmulRandomShapes) {
  Random random(1);
  for (int i = 0; i < 60; ++i) {
    check_matmul(random, random.between(1, 40), random.between(1, 70), random.between(1, 100));
  }
  check_matmul(random, 1, 1, 1);
  check_matmul(random, 1190, 33, 17);  // more rows than a block holds
  check_matmul(random, 5, 1100, 31);   // more columns
}

TEST(Ops, MatmulOfSeveralPanels) {
  Random random(26);
  for (const size_t k : {0, 1, 31, 32, 33, 769, 2049}) {
    for (int layout = 0; layout < 4; ++layout) check_matmul(random, 130, 150, k);  // several blocks of packed rows
  }
}

TEST(Ops, MatmulChunkBoundaries) {
  Random random(2);
  for (const size_t k : {0, 1, 767, 768, 769, 2047, 2048, 2049, 4096, 5000}) {
    for (int i = 0; i < 3; ++i) check_matmul(random, random.between(1, 14), random.between(1, 35), k);
  }
}

// The contraction rule said once more, in the test's own words.
TEST(Ops, MatmulFollowsTheContractionRule) {
  Random random(3);
  const size_t k = 4500;
  const Values a = random.values(k), b = random.values(k);
  float total = 0;
  for (size_t begin = 0; begin < k; begin += 2048) {
    float acc = 0;
    for (size_t i = begin; i < std::min(k, begin + 2048); ++i) acc = std::fma(a[i], b[i], acc);
    total += acc;
  }
  for (const auto& [name, ops] : engines()) {
    float c = 0;
    ops->matmul(
        {.m = 1, .n = 1, .k = k, .a = a.data(), .a_row = k, .b = b.data(), .b_row = 1, .b_col = 1, .c = &c, .ldc = 1});
    EXPECT_EQ(c, total) << name;
  }
}

// Chains that meet sums beside a midpoint of two fp32 values, which binary64 alone rounds wrongly, and denormal ones.
TEST(Ops, MatmulRoundsOnce) {
  Random random(12);
  for (const float root : {1.0f, 0x1p-55f, 0x1p-63f}) {  // of the values' size
    const size_t n = 19, k = 2;
    Values a(n * k), b(k * n);
    for (size_t i = 0; i < n; ++i) {
      const float tiny = 0x1p-23f * static_cast<float>(1 + i);
      a[i * k] = root * root * (1 + 0x1p-23f * static_cast<float>(random.between(0, 0x7fffff)));
      a[i * k + 1] = 0x1p-12f * (1 + tiny) * root;
      b[i] = i % 2 ? 1 : -1;
      b[n + i] = 0x1p-12f * (1 - tiny) * root;
    }
    size_t wrong_in_binary64 = 0;
    for (size_t i = 0; i < n; ++i) {
      const float naive = static_cast<float>(static_cast<double>(a[i * k + 1]) * b[n + i] + a[i * k] * b[i]);
      wrong_in_binary64 += naive != std::fma(a[i * k + 1], b[n + i], a[i * k] * b[i]);
    }
    EXPECT_GT(wrong_in_binary64, 0u);
    expect_same("matmul beside midpoints", [&](Ops& ops) {
      Values c = poisoned(n * n);
      ops.matmul(
          {.m = n, .n = n, .k = k, .a = a.data(), .a_row = k, .b = b.data(), .b_row = n, .c = c.data(), .ldc = n});
      return c;
    });
  }
}

TEST(Ops, ContractionIsNeverMinusZero) {
  const Values a = {-0.0f, 0.0f}, b = {1.0f, -1.0f};
  for (const auto& [name, ops] : engines()) {
    float c = 1;
    ops->matmul({.m = 1, .n = 1, .k = 2, .a = a.data(), .a_row = 2, .b = b.data(), .b_row = 1, .c = &c, .ldc = 1});
    EXPECT_FALSE(std::signbit(c)) << name;
  }
}

TEST(Ops, Embeddings) {
  Random random(4);
  for (int i = 0; i < 10; ++i) {
    const size_t context = random.between(1, 40),
                 tokens = context * random.between(1, 5) - random.between(0, context - 1);
    const size_t channels = random.between(1, 70), vocabulary = random.between(1, 30);
    const auto ids = random.ids(tokens, vocabulary);
    Values wte = random.values(vocabulary * channels), wpe = random.values(context * channels);
    for (Values* sums : {&wte, &wpe}) {
      for (float& x : *sums) x += 0.0f;  // a gradient's sum is never -0, so a row without tokens may be skipped
    }
    const Values dout = random.values(tokens * channels);
    expect_same("embedding", [&](Ops& ops) {
      Values out = poisoned(tokens * channels), dwte = wte, dwpe = wpe;
      Values workspace = poisoned(ops.embedding_workspace(vocabulary, channels));
      ops.embedding_forward({.tokens = tokens,
                             .channels = channels,
                             .context = context,
                             .ids = ids.data(),
                             .wte = wte.data(),
                             .wpe = wpe.data(),
                             .out = out.data()});
      ops.embedding_backward({.tokens = tokens,
                              .channels = channels,
                              .context = context,
                              .vocabulary = vocabulary,
                              .ids = ids.data(),
                              .dout = dout.data(),
                              .dwte = dwte.data(),
                              .dwpe = dwpe.data(),
                              .workspace = workspace.data()});
      return joined({out, dwte, dwpe});
    });
  }
}

void check_layer_norm(Random& random, size_t rows, size_t channels) {
  const Values x = random.values(rows * channels), weight = random.values(channels), bias = random.values(channels);
  const Values dy0 = random.values(rows * channels), dresidual = random.values(rows * channels);
  const bool in_place = random.between(0, 1), residual = random.between(0, 1);
  expect_same("layer norm " + std::to_string(rows) + " x " + std::to_string(channels), [&](Ops& ops) {
    Values y = poisoned(rows * channels), mean = poisoned(rows), rstd = mean, dy = dy0, dx = y;
    Values dweight = weight, dbias = bias;
    ops.layer_norm_forward({.rows = rows,
                            .channels = channels,
                            .epsilon = 1e-5f,
                            .x = x.data(),
                            .weight = weight.data(),
                            .bias = bias.data(),
                            .y = y.data(),
                            .mean = mean.data(),
                            .rstd = rstd.data()});
    ops.layer_norm_backward({.rows = rows,
                             .channels = channels,
                             .dy = dy.data(),
                             .x = x.data(),
                             .weight = weight.data(),
                             .mean = mean.data(),
                             .rstd = rstd.data(),
                             .dresidual = residual ? dresidual.data() : nullptr,
                             .dx = in_place ? dy.data() : dx.data(),
                             .dweight = dweight.data(),
                             .dbias = dbias.data()});
    return joined({y, mean, rstd, in_place ? dy : dx, dweight, dbias});
  });
}

TEST(Ops, LayerNorm) {
  Random random(5);
  for (int i = 0; i < 12; ++i) check_layer_norm(random, random.between(1, 140), random.between(1, 200));
  check_layer_norm(random, 1100, 5);  // more runs than a block of threads has warps
  check_layer_norm(random, 3, 4096);
  check_layer_norm(random, 2, 4099);
}

TEST(Ops, BiasAndGelu) {
  Random random(6);
  for (int i = 0; i < 8; ++i) {
    const size_t rows = random.between(1, 200), channels = random.between(1, 300), count = rows * channels;
    const Values x = random.values(count), dy = random.values(count), bias = random.values(channels);
    expect_same("bias and gelu", [&](Ops& ops) {
      Values dbias = bias, y = poisoned(count), dx = dy;
      ops.bias_backward({.rows = rows, .channels = channels, .dy = dy.data(), .dbias = dbias.data()});
      ops.gelu_forward({.count = count, .x = x.data(), .y = y.data()});
      ops.gelu_backward({.count = count, .x = x.data(), .dy = dx.data(), .dx = dx.data()});
      return joined({dbias, y, dx});
    });
  }
}

void check_attention(Random& random, const test::AttentionCase& shape) {
  const Values qkv = random.values(shape.inputs()), dout = random.values(shape.outputs());
  expect_same(shape.text(), [&](Ops& ops) { return test::attention(ops, shape, qkv, dout); });
}

TEST(Ops, Attention) {
  Random random(7);
  for (int i = 0; i < 10; ++i) {
    const size_t kv_heads = random.between(1, 3), heads = kv_heads * random.between(1, 3);
    check_attention(random, {random.between(1, 3), random.between(1, 150), heads, kv_heads, random.between(1, 40)});
  }
  check_attention(random, {1, 64, 1, 1, 64});
}

TEST(Ops, AttentionOverTwoChunks) {
  Random random(13);
  check_attention(random, {1, 2115, 2, 1, 3});
}

TEST(Ops, CrossEntropy) {
  Random random(8);
  for (const size_t vocabulary : {1, 2, 31, 256, 4095, 4097, 9001}) {
    const size_t rows = random.between(1, 9), row = vocabulary + random.between(0, 20);
    const auto targets = random.ids(rows, vocabulary);
    const auto between_rows = [&](size_t i) { return i % row >= vocabulary; };
    Values logits0 = random.values(rows * row);
    for (size_t i = 0; i < logits0.size(); ++i)
      if (between_rows(i)) logits0[i] = std::numeric_limits<float>::quiet_NaN();
    for (const float scale : {0.0f, 0.125f, 1e-3f}) {
      expect_same("cross-entropy of " + std::to_string(vocabulary), [&](Ops& ops) {
        Values logits = logits0, losses = poisoned(rows);
        ops.cross_entropy({.rows = rows,
                           .vocabulary = vocabulary,
                           .row = row,
                           .logits = logits.data(),
                           .targets = targets.data(),
                           .losses = losses.data(),
                           .scale_gradient = scale});
        for (size_t i = 0; i < logits.size(); ++i) EXPECT_EQ(std::isnan(logits[i]), between_rows(i)) << i;
        return scale != 0 ? joined({logits, losses}) : losses;
      });
    }
  }
}

AdamW some_step(std::span<const TensorEnd> tensors, const Values& g, Values& w, Values& m, Values& v) {
  return {.tensor_count = tensors.size(),
          .tensors = tensors.data(),
          .beta1 = 0.9f,
          .one_minus_beta1 = 0.1f,
          .beta2 = 0.95f,
          .one_minus_beta2 = 0.05f,
          .epsilon = 1e-8f,
          .decay = 0.9f,
          .step_size = 0.01f,
          .inv_sqrt_bc2 = 1.5f,
          .g = g.data(),
          .w = w.data(),
          .m = m.data(),
          .v = v.data()};
}

TEST(Ops, Optimisers) {
  Random random(9);
  for (const size_t count : {1, 7, 8, 1000, 40001}) {
    const Values g = random.values(count), w0 = random.values(count), m0 = random.values(count);
    Values v0 = random.values(count);
    for (float& v : v0) v = std::abs(v);
    const TensorEnd tensor{.end = count, .decays = true};
    expect_same("optimisers of " + std::to_string(count), [&](Ops& ops) {
      Values w = w0, m = m0, v = v0, w2 = w0, m2 = m0;
      ops.adamw(some_step({&tensor, 1}, g, w, m, v));
      ops.nesterov({.count = count, .lr = 0.7f, .momentum = 0.6f, .g = g.data(), .w = w2.data(), .m = m2.data()});
      return joined({w, m, v, w2, m2});
    });
  }
}

TEST(Ops, SumsAndArithmetic) {
  Random random(10);
  for (const size_t count : {0, 1, 31, 32, 33, 4096, 4097, 50000}) {
    const Values x = random.values(count), y0 = random.values(count);
    expect_same("arithmetic of " + std::to_string(count), [&](Ops& ops) {
      Values y = y0, difference = poisoned(count), squares = poisoned(1);
      ops.add(x.data(), y.data(), count);
      ops.scale(0.37f, y.data(), count);
      ops.subtract(x.data(), y.data(), difference.data(), count);
      const TensorEnd whole{.end = count};
      ops.sums_of_squares(&whole, 1, x.data(), squares.data());
      return joined({y, difference, squares, {ops.row_sum(x.data(), count)}});
    });
  }
}

// Short and long ones, and empty ones; 240 are what a launch on a card takes.
TEST(Ops, TensorsOneBehindTheOther) {
  Random random(11);
  for (const size_t tensor_count : {1, 2, 239, 240, 241, 600}) {
    std::vector<TensorEnd> tensors;
    for (size_t t = 0, end = 0; t < tensor_count; ++t) {
      constexpr size_t long_ones[] = {4096, 4097, 1024, 12289, 1023};
      end += t % 97 < 5 ? long_ones[t % 97] : random.between(0, 9);
      tensors.push_back({.end = end, .decays = random.between(0, 1) == 1});
    }
    const size_t count = tensors.back().end;
    const Values g = random.values(count), w0 = random.values(count), m0 = random.values(count), v0(count, 0.3f);
    expect_same(std::to_string(tensor_count) + " tensors", [&](Ops& ops) {
      Values w = w0, m = m0, v = v0, sums = poisoned(tensor_count);
      ops.adamw(some_step(tensors, g, w, m, v));
      ops.sums_of_squares(tensors.data(), tensor_count, g.data(), sums.data());
      return joined({w, m, v, sums});
    });
  }
}

TEST(Ops, FindsTheFirstNonFinite) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const auto& [name, ops] : engines()) {
    for (const size_t at : {0, 5, 8, 69, 70}) {
      for (const float bad : {infinity, -infinity, nan}) {
        Values x(71, -std::numeric_limits<float>::max());
        EXPECT_EQ(ops->first_non_finite(x.data(), x.size()), 71u);
        x[at] = x[70] = bad;
        EXPECT_EQ(ops->first_non_finite(x.data(), x.size()), at) << name;
      }
    }
  }
}

}  // namespace
}  // namespace kernels
