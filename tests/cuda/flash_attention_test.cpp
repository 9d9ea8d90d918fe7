// flash_attention.cu against attention in binary64 of the same rounded inputs, and against the exact one.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <stdexcept>

#include "cuda_host/attention_launch.h"
#include "fast_test_util.h"
#include "simt_ops.h"

namespace kernels::cuda {
namespace {

using kernels::test::attention_results;
using kernels::test::AttentionCase;
using kernels::test::AttentionResults;
using kernels::test::compute_attention;
using kernels::test::SimtOps;
using test::both_halves;
using test::both_orders;
using test::Doubles;
using test::expect_same_bits;
using test::Halves;
using test::relative_error;
using test::Values;

Values normal_values(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Values x(count);
  for (float& v : x) v = normal(random);
  return x;
}

// Attention of one query head in binary64; gradients are added to dqkv.
void oracle_head(const AttentionCase& shape, size_t sequence, size_t head, const Doubles& qkv, const Doubles& dout,
                 AttentionResults<double>& r) {
  const size_t T = shape.context, D = shape.head_size, row = (shape.heads + 2 * shape.kv_heads) * D;
  const size_t kv_head = head / (shape.heads / shape.kv_heads);
  const auto q_at = [&](size_t t, size_t d) { return (sequence * T + t) * row + head * D + d; };
  const auto k_at = [&](size_t t, size_t d) { return (sequence * T + t) * row + (shape.heads + kv_head) * D + d; };
  const auto v_at = [&](size_t t, size_t d) { return k_at(t, d) + shape.kv_heads * D; };
  const auto out_at = [&](size_t t, size_t d) { return (sequence * T + t) * shape.heads * D + head * D + d; };
  const double scale = 1 / std::sqrt(static_cast<double>(D));
  for (size_t i = 0; i < T; ++i) {
    Doubles weights(i + 1), products(i + 1);
    for (size_t j = 0; j <= i; ++j) {
      for (size_t d = 0; d < D; ++d) weights[j] += qkv[q_at(i, d)] * qkv[k_at(j, d)] * scale;
      for (size_t d = 0; d < D; ++d) products[j] += dout[out_at(i, d)] * qkv[v_at(j, d)];
    }
    const double highest = *std::ranges::max_element(weights);
    double sum = 0, product = 0;
    for (double& w : weights) sum += w = std::exp(w - highest);
    for (double& w : weights) w /= sum;
    for (size_t j = 0; j <= i; ++j) product += weights[j] * products[j];
    for (size_t j = 0; j <= i; ++j) {
      const double dscore = weights[j] * (products[j] - product) * scale;
      for (size_t d = 0; d < D; ++d) {
        r.out[out_at(i, d)] += weights[j] * qkv[v_at(j, d)];
        r.dqkv[v_at(j, d)] += weights[j] * dout[out_at(i, d)];
        r.dqkv[q_at(i, d)] += dscore * qkv[k_at(j, d)];
        r.dqkv[k_at(j, d)] += dscore * qkv[q_at(i, d)];
      }
    }
    const size_t statistic = (sequence * shape.heads + head) * T + i;
    r.row_max[statistic] = highest, r.inverse_sum[statistic] = 1 / sum;
  }
}

AttentionResults<double> oracle(const AttentionCase& shape, const Doubles& qkv, const Doubles& dout) {
  const Doubles rows(shape.sequences * shape.heads * shape.context);
  AttentionResults<double> r{Doubles(shape.outputs()), rows, rows, Doubles(shape.inputs())};
  for (size_t s = 0; s < shape.sequences; ++s) {
    for (size_t h = 0; h < shape.heads; ++h) oracle_head(shape, s, h, qkv, dout, r);
  }
  return r;
}

Doubles doubles(const Values& x) { return Doubles(x.begin(), x.end()); }

// Of fp32 arrays, by halves.
AttentionResults<float> results_in_halves(SimtOps& ops, const AttentionCase& shape, const Values& qkv,
                                          const Values& dout) {
  const HalfPrecision half = ops.half_precision();
  const Halves qkv_halves = test::halves_of(qkv, half), dout_halves = test::halves_of(dout, half);
  Halves out = test::poisoned_halves(shape.outputs()), dqkv = test::poisoned_halves(shape.inputs());
  const Values rows = test::poisoned(shape.sequences * shape.heads * shape.context);
  AttentionResults<float> r{{}, rows, rows, {}};
  compute_attention(ops, shape, qkv_halves.data(), dout_halves.data(), out.data(), r.row_max, r.inverse_sum,
                    dqkv.data());
  r.out = test::numbers_of(out, half), r.dqkv = test::numbers_of(dqkv, half);
  return r;
}

// Beside the rounded inputs, weights, their gradients and the results are rounded once, which moves results by that
// error in the norm; twice of it is allowed. The statistics are of fp32 sums. Against the exact attention the inputs'
// rounding comes on top, in scores of size 1 and in values: eight times.
void check_flash_attention(const AttentionCase& shape, uint32_t seed) {
  const Values qkv = normal_values(shape.inputs(), seed), dout = normal_values(shape.outputs(), seed + 1);
  const AttentionResults<float> exact = attention_results(*make_reference_ops(), shape, qkv, dout);
  for (const HalfPrecision half : both_halves) {
    const std::string what = shape.text() + ", " + name_of(half);
    AttentionResults<float> r[2];
    for (size_t i = 0; i < 2; ++i) {
      SimtOps ops(both_orders[i], Int8Arithmetic::m16n8k32, half);
      r[i] = results_in_halves(ops, shape, qkv, dout);
    }
    expect_same_bits(r[1].out, r[0].out, what);
    expect_same_bits(r[1].row_max, r[0].row_max, what);
    expect_same_bits(r[1].inverse_sum, r[0].inverse_sum, what);
    expect_same_bits(r[1].dqkv, r[0].dqkv, what);

    const AttentionResults<double> right =
        oracle(shape, doubles(test::rounded(qkv, half)), doubles(test::rounded(dout, half)));
    const double error = test::half_error(half);
    EXPECT_LT(relative_error(r[0].out, right.out), 2 * error) << what;
    EXPECT_LT(relative_error(r[0].dqkv, right.dqkv), 2 * error) << what;
    for (size_t i = 0; i < right.row_max.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(r[0].row_max[i]), right.row_max[i], 1e-5) << what;
      EXPECT_NEAR(static_cast<double>(r[0].inverse_sum[i]), right.inverse_sum[i], 1e-5) << what;
    }
    EXPECT_LT(relative_error(r[0].out, exact.out), 8 * error) << what;
    EXPECT_LT(relative_error(r[0].dqkv, exact.dqkv), 8 * error) << what;
  }
}

TEST(CudaFlashAttention, Contexts) {
  for (const size_t context : {1, 7, 64, 65, 100, 128, 129, 257}) check_flash_attention({1, context, 2, 1, 32}, 1);
}

TEST(CudaFlashAttention, HeadSizes) {
  for (const size_t head_size : {1, 8, 17, 20, 40, 64, 65, 80, 128}) check_flash_attention({1, 70, 1, 1, head_size}, 3);
}

TEST(CudaFlashAttention, HeadsAndSequences) {
  check_flash_attention({2, 70, 4, 2, 64}, 5);
  check_flash_attention({2, 33, 6, 2, 80}, 7);
  check_flash_attention({3, 5, 3, 3, 128}, 9);
}

// Scores of which often only one matters. Then the gradient of a score is a difference of two numbers that nearly
// agree, and what rounding leaves of it is less exact than they are.
TEST(CudaFlashAttention, LargeScores) {
  const AttentionCase shape{1, 150, 1, 1, 32};
  Values qkv = normal_values(shape.inputs(), 11);
  for (float& x : qkv) x *= 16;
  const Values dout = normal_values(shape.outputs(), 12);
  for (const HalfPrecision half : both_halves) {
    SimtOps ops(simt::Order::upward, Int8Arithmetic::m16n8k32, half);
    const AttentionResults<float> r = results_in_halves(ops, shape, qkv, dout);
    const AttentionResults<double> right =
        oracle(shape, doubles(test::rounded(qkv, half)), doubles(test::rounded(dout, half)));
    EXPECT_LT(relative_error(r.out, right.out), 2 * test::half_error(half));
    EXPECT_LT(relative_error(r.dqkv, right.dqkv), 64 * test::half_error(half));
  }
}

TEST(CudaFlashAttention, RefusesHeadsThatAreTooWide) {
  simt::SimtLauncher device;
  AttentionForward op{.sequences = 1, .context = 9, .heads = 1, .kv_heads = 1, .head_size = 129};
  EXPECT_THROW(launch_flash_attention_forward(op, HalfPrecision::bf16, device), std::invalid_argument);
}

}  // namespace
}  // namespace kernels::cuda
