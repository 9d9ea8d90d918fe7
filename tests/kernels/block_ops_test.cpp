// Operations over several blocks of tokens: what the definition gives for one block after the other.
#include "ops_test_util.h"

namespace kernels {
namespace {

using test::engines;
using test::expect_same_bits;
using test::joined;
using test::poisoned;
using test::Random;
using test::Values;

using Digits = std::vector<int8_t>;

struct Tokens {
  size_t count, block;

  std::string text() const { return std::to_string(count) + " tokens in blocks of " + std::to_string(block); }
};

Tokens some_tokens(Random& random, size_t most) {
  const size_t count = random.between(1, most);
  return {count, random.between(1, count + 3)};
}

// f(number, first, count) for each block.
template <class F>
void for_each(const Tokens& tokens, const F& f) {
  for (size_t first = 0, number = 0; first < tokens.count; first += tokens.block, ++number)
    f(number, first, std::min(tokens.block, tokens.count - first));
}

// compute(ops, block, number, first, count): all at once on every engine, and by the definition one block at a time.
template <class Compute, class Result>
void expect_blocks(const std::string& what, const Tokens& tokens, const Compute& compute, const Result& result) {
  for_each(tokens, [&](size_t number, size_t first, size_t count) {
    compute(*engines()[0].ops, size_t{0}, number, first, count);
  });
  const Values expected = result();
  for (const test::Engine& engine : engines()) {
    compute(*engine.ops, tokens.block, 0, 0, tokens.count);
    expect_same_bits(result(), expected, what + ", " + tokens.text() + ", " + engine.name);
  }
}

// The gradient of a weight: both operands lie token by token, or not.
void check_matmul(Random& random, size_t m, size_t n, const Tokens& tokens) {
  const bool a_by_token = random.between(0, 3) > 0, b_by_token = random.between(0, 3) > 0;
  const size_t k = tokens.count, ldc = n + random.between(0, 3);
  const Values a = random.values(m * k), b = random.values(k * n), c0 = random.values(m * ldc);
  Values c;
  expect_blocks(
      "matmul", tokens,
      [&](Ops& ops, size_t block, size_t, size_t first, size_t count) {
        if (first == 0) c = c0;
        Matmul op{.m = m, .n = n, .k = count, .c = c.data(), .ldc = ldc, .accumulate = true, .block = block};
        op.a_row = a_by_token ? 1 : k, op.a_col = a_by_token ? m : 1;
        op.b_row = b_by_token ? n : 1, op.b_col = b_by_token ? 1 : k;
        op.a = a.data() + first * op.a_col, op.b = b.data() + first * op.b_row;
        ops.matmul(op);
      },
      [&] { return c; });
}

TEST(BlockOps, Matmul) {
  Random random(31);
  for (int i = 0; i < 40; ++i)
    check_matmul(random, random.between(1, 80), random.between(1, 90), some_tokens(random, 120));
  check_matmul(random, 130, 150, {2100, 700});
  check_matmul(random, 5, 7, {5000, 2047});
  check_matmul(random, 5, 7, {5000, 2048});
  check_matmul(random, 5, 7, {5000, 2049});  // longer than a chunk
}

void check_int8(Random& random, size_t m, size_t n, const Tokens& tokens) {
  const bool a_by_token = random.between(0, 3) > 0, b_by_token = random.between(0, 3) > 0;
  const bool two_digits = random.between(0, 3) == 0, a_has_scales = random.between(0, 1);
  const size_t k = tokens.count, blocks = (k + tokens.block - 1) / tokens.block, stride = std::max(m, n) + 1;
  const auto digits = [&random](size_t count) {
    Digits x(count);
    for (int8_t& v : x) v = static_cast<int8_t>(static_cast<int>(random.between(0, 254)) - 127);
    return x;
  };
  const Digits a = digits(m * k), low = digits(m * k), b = digits(k * n);
  const Values scales = random.values(blocks * stride), c0 = random.values(m * n);
  Values c;
  expect_blocks(
      "int8 matmul", tokens,
      [&](Ops& ops, size_t block, size_t number, size_t first, size_t count) {
        if (first == 0) c = c0;
        Int8Matmul op{.m = m, .n = n, .k = count, .c = c.data(), .ldc = n, .accumulate = true, .block = block};
        op.block_scales = stride;
        op.a_row = a_by_token ? 1 : k, op.a_col = a_by_token ? m : 1;
        op.b_row = b_by_token ? n : 1, op.b_col = b_by_token ? 1 : k;
        op.a = a.data() + first * op.a_col, op.b = b.data() + first * op.b_row;
        if (two_digits) op.a_low = low.data() + first * op.a_col;
        (a_has_scales ? op.a_scales : op.b_scales) = scales.data() + number * stride;
        ops.int8_matmul(op);
      },
      [&] { return c; });
}

TEST(BlockOps, Int8Matmul) {
  Random random(32);
  for (int i = 0; i < 60; ++i)
    check_int8(random, random.between(1, 80), random.between(1, 90), some_tokens(random, 120));
  check_int8(random, 130, 150, {2100, 700});
}

TEST(BlockOps, QuantiseColumns) {
  Random random(33);
  for (int i = 0; i < 20; ++i) {
    const Tokens tokens = some_tokens(random, 100);
    const size_t columns = random.between(1, 90), row = columns + random.between(0, 5), count = tokens.count * row;
    const Values x = random.values(count), factors = random.values(tokens.count);
    const bool with_factors = random.between(0, 1), two_digits = random.between(0, 1);
    const size_t blocks = (tokens.count + tokens.block - 1) / tokens.block;
    Digits q(count), low(count);
    Values scales(blocks * columns);
    expect_blocks(
        "quantised columns", tokens,
        [&](Ops& ops, size_t block, size_t number, size_t first, size_t rows) {
          if (first == 0) std::ranges::fill(q, 99), std::ranges::fill(low, 99), scales = poisoned(scales.size());
          const size_t at = first * row;
          ops.quantise_columns({.rows = rows,
                                .columns = columns,
                                .row = row,
                                .block = block,
                                .x = x.data() + at,
                                .row_factors = with_factors ? factors.data() + first : nullptr,
                                .q = q.data() + at,
                                .low = two_digits ? low.data() + at : nullptr,
                                .scales = scales.data() + number * columns});
        },
        [&] {
          return joined({Values(q.begin(), q.end()), Values(low.begin(), low.end()), scales});
        });
  }
}

TEST(BlockOps, Embedding) {
  Random random(34);
  for (int i = 0; i < 20; ++i) {
    const size_t context = random.between(1, 9), vocabulary = random.between(1, 20), channels = random.between(1, 70);
    Tokens tokens = some_tokens(random, 12);  // sequences
    tokens = {tokens.count * context, tokens.block * context};
    const auto ids = random.ids(tokens.count, vocabulary);
    const Values dout = random.values(tokens.count * channels);
    Values wte0 = random.values(vocabulary * channels), wpe0 = random.values(context * channels), dwte, dwpe;
    for (Values* sums : {&wte0, &wpe0}) {
      for (float& x : *sums) x += 0.0f;  // a gradient's sum is never -0, so a row without tokens may be skipped
    }
    expect_blocks(
        "embedding", tokens,
        [&](Ops& ops, size_t block, size_t, size_t first, size_t count) {
          if (first == 0) dwte = wte0, dwpe = wpe0;
          Values workspace = poisoned(ops.embedding_workspace(vocabulary, channels));
          ops.embedding_backward({.tokens = count,
                                  .channels = channels,
                                  .context = context,
                                  .vocabulary = vocabulary,
                                  .block = block,
                                  .ids = ids.data() + first,
                                  .dout = dout.data() + first * channels,
                                  .dwte = dwte.data(),
                                  .dwpe = dwpe.data(),
                                  .workspace = workspace.data()});
        },
        [&] {
          return joined({dwte, dwpe});
        });
  }
}

void check_norms_and_bias(Random& random, const Tokens& tokens, size_t channels) {
  const size_t count = tokens.count * channels;
  const Values x = random.values(count), dy = random.values(count), weight = random.values(channels);
  const Values bias = random.values(channels), mean = random.values(tokens.count), rstd = random.values(tokens.count);
  const bool in_place = random.between(0, 1), residual = random.between(0, 1);
  Values dx, dweight, dbias;
  const auto start = [&](size_t first) {
    if (first == 0) dx = in_place ? dy : poisoned(count), dweight = weight, dbias = bias;
  };
  const auto result = [&] { return joined({dx, dweight, dbias}); };
  const auto gradient = [&](size_t at) { return (in_place ? dx.data() : dy.data()) + at; };
  expect_blocks(
      "layer norm", tokens,
      [&](Ops& ops, size_t block, size_t, size_t first, size_t rows) {
        start(first);
        const size_t at = first * channels;
        ops.layer_norm_backward({.rows = rows,
                                 .channels = channels,
                                 .block = block,
                                 .dy = gradient(at),
                                 .x = x.data() + at,
                                 .weight = weight.data(),
                                 .mean = mean.data() + first,
                                 .rstd = rstd.data() + first,
                                 .dresidual = residual ? x.data() + at : nullptr,
                                 .dx = dx.data() + at,
                                 .dweight = dweight.data(),
                                 .dbias = dbias.data()});
      },
      result);
  expect_blocks(
      "rms norm", tokens,
      [&](Ops& ops, size_t block, size_t, size_t first, size_t rows) {
        start(first);
        const size_t at = first * channels;
        ops.rms_norm_backward({.rows = rows,
                               .channels = channels,
                               .block = block,
                               .dy = gradient(at),
                               .x = x.data() + at,
                               .weight = weight.data(),
                               .rstd = rstd.data() + first,
                               .dresidual = residual ? x.data() + at : nullptr,
                               .dx = dx.data() + at,
                               .dweight = dweight.data()});
      },
      result);
  expect_blocks(
      "bias", tokens,
      [&](Ops& ops, size_t block, size_t, size_t first, size_t rows) {
        start(first);
        ops.bias_backward({.rows = rows,
                           .channels = channels,
                           .block = block,
                           .dy = dy.data() + first * channels,
                           .dbias = dbias.data()});
      },
      result);
}

TEST(BlockOps, NormsAndBias) {
  Random random(35);
  for (int i = 0; i < 20; ++i) check_norms_and_bias(random, some_tokens(random, 150), random.between(1, 100));
  check_norms_and_bias(random, {2300, 1100}, 5);  // more runs than a block of threads has warps
}

}  // namespace
}  // namespace kernels
