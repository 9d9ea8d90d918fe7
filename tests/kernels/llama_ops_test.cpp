// LLaMA's operations give the same bits on every path, at every thread count.
#include <gtest/gtest.h>

#include "ops_test_util.h"

namespace kernels {
namespace {

using test::expect_same;
using test::joined;
using test::poisoned;
using test::Random;
using test::Values;

void check_rms_norm(Random& random, size_t rows, size_t channels) {
  const Values x = random.values(rows * channels), weight = random.values(channels);
  const Values dy0 = random.values(rows * channels), dresidual = random.values(rows * channels);
  const bool in_place = random.between(0, 1), residual = random.between(0, 1);
  expect_same("rms norm " + std::to_string(rows) + " x " + std::to_string(channels), [&](Ops& ops) {
    Values y = poisoned(rows * channels), rstd = poisoned(rows), dy = dy0, dx = y, dweight = weight;
    ops.rms_norm_forward({.rows = rows,
                          .channels = channels,
                          .epsilon = 1e-6f,
                          .x = x.data(),
                          .weight = weight.data(),
                          .y = y.data(),
                          .rstd = rstd.data()});
    ops.rms_norm_backward({.rows = rows,
                           .channels = channels,
                           .dy = dy.data(),
                           .x = x.data(),
                           .weight = weight.data(),
                           .rstd = rstd.data(),
                           .dresidual = residual ? dresidual.data() : nullptr,
                           .dx = in_place ? dy.data() : dx.data(),
                           .dweight = dweight.data()});
    return joined({y, rstd, in_place ? dy : dx, dweight});
  });
}

TEST(LlamaOps, RmsNorm) {
  Random random(21);
  for (int i = 0; i < 12; ++i) check_rms_norm(random, random.between(1, 140), random.between(1, 200));
  check_rms_norm(random, 2, 4099);
}

TEST(LlamaOps, Swiglu) {
  Random random(22);
  for (int i = 0; i < 10; ++i) {
    const size_t rows = random.between(1, 100), inner = random.between(1, 200);
    Values gate_up = random.values(2 * rows * inner);
    for (size_t j = 0; j < gate_up.size(); j += 17) gate_up[j] *= 200;  // where the exponential ends
    const Values dy = random.values(rows * inner);
    const bool in_place = random.between(0, 1);
    expect_same("swiglu", [&](Ops& ops) {
      Values y = poisoned(rows * inner), x = gate_up, dx = poisoned(gate_up.size());
      ops.swiglu_forward({.rows = rows, .inner = inner, .gate_up = x.data(), .y = y.data()});
      ops.swiglu_backward({.rows = rows,
                           .inner = inner,
                           .gate_up = x.data(),
                           .dy = dy.data(),
                           .dgate_up = in_place ? x.data() : dx.data()});
      return joined({y, in_place ? x : dx});
    });
  }
}

TEST(LlamaOps, Rope) {
  Random random(23);
  for (int i = 0; i < 10; ++i) {
    const size_t half = random.between(1, 40), context = random.between(1, 50), tokens = context * random.between(1, 3);
    const size_t heads = random.between(1, 5), row = heads * 2 * half + random.between(0, 9);
    const Values x0 = random.values(tokens * row), cos = random.values(context * half), sin = random.values(cos.size());
    for (const bool back : {false, true}) {
      expect_same("rope", [&](Ops& ops) {
        Values x = x0;
        ops.rope({.tokens = tokens,
                  .context = context,
                  .heads = heads,
                  .head_size = 2 * half,
                  .row = row,
                  .cos = cos.data(),
                  .sin = sin.data(),
                  .x = x.data(),
                  .back = back});
        return x;
      });
    }
  }
}

}  // namespace
}  // namespace kernels
