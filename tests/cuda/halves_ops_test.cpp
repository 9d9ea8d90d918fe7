// Operations on halves compute what those on fp32 do with the same numbers, and round what they give: to the bit.
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <stdexcept>

#include "fast_test_util.h"
#include "simt_ops.h"

namespace kernels::cuda {
namespace {

using kernels::test::SimtOps;
using test::both_halves;
using test::both_orders;
using test::expect_same_bits;
using test::Halves;
using test::halves_of;
using test::numbers_of;
using test::poisoned;
using test::poisoned_halves;
using test::Random;
using test::rounded;
using test::Values;

// What an operation wrote: fp32, and what is of halves in one of the two.
struct Written {
  std::deque<Values> floats;
  std::deque<Values> numbers;  // of the reference
  std::deque<Halves> halves;   // of the kernels
};

// compute(ops, array): array(x) makes an array of the numbers x, which is of halves or of fp32, and lists it.
class Array {
 public:
  Array(HalfPrecision half, bool halves) : half_(half), halves_(halves) {}

  FloatsOrHalves operator()(const Values& x) {
    if (halves_) return written.halves.emplace_back(halves_of(x, half_)).data();
    return written.numbers.emplace_back(rounded(x, half_)).data();
  }
  float* fp32(const Values& x) { return written.floats.emplace_back(x).data(); }
  uint16_t* only_halves(size_t count) {
    return halves_ ? written.halves.emplace_back(poisoned_halves(count)).data() : nullptr;
  }

  Written written;

 private:
  const HalfPrecision half_;
  const bool halves_;
};

template <class Compute>
void expect_rounded(const std::string& what, const Compute& compute) {
  for (const HalfPrecision half : both_halves) {
    Array of_fp32(half, false);
    compute(*make_reference_ops(), of_fp32);
    for (const simt::Order order : both_orders) {
      SimtOps ops(order, Int8Arithmetic::m16n8k32, half);
      Array of_halves(half, true);
      compute(ops, of_halves);
      const std::string which = what + ", " + name_of(half);
      for (size_t i = 0; i < of_fp32.written.floats.size(); ++i)
        expect_same_bits(of_halves.written.floats[i], of_fp32.written.floats[i], which);
      for (size_t i = 0; i < of_fp32.written.numbers.size(); ++i)
        EXPECT_EQ(of_halves.written.halves[i], halves_of(of_fp32.written.numbers[i], half)) << which << ", array " << i;
    }
  }
}

// Of whole groups of four and not; a row's sum is of several segments where it is long.
constexpr size_t widths[] = {1, 5, 36, 300, 4100};

TEST(CudaHalves, LayerNorm) {
  Random random(1);
  for (const size_t width : widths) {
    const size_t rows = random.between(1, 9);
    const Values x = random.values(rows * width), weight = random.values(width), bias = random.values(width);
    const Values dy = random.values(rows * width), dresidual = random.values(rows * width), sums = random.values(width);
    expect_rounded("width " + std::to_string(width), [&](Ops& ops, Array& array) {
      float *const mean = array.fp32(poisoned(rows)), *const rstd = array.fp32(poisoned(rows));
      ops.layer_norm_forward({.rows = rows,
                              .channels = width,
                              .epsilon = 1e-5f,
                              .x = x.data(),
                              .weight = weight.data(),
                              .bias = bias.data(),
                              .y = array(poisoned(rows * width)),
                              .mean = mean,
                              .rstd = rstd});
      ops.layer_norm_backward({.rows = rows,
                               .channels = width,
                               .block = 4,
                               .dy = array(dy),
                               .x = x.data(),
                               .weight = weight.data(),
                               .mean = mean,
                               .rstd = rstd,
                               .dresidual = dresidual.data(),
                               .dx = array.fp32(poisoned(rows * width)),
                               .dx_halves = array.only_halves(rows * width),
                               .dweight = array.fp32(sums),
                               .dbias = array.fp32(sums)});
    });
  }
}

TEST(CudaHalves, RmsNorm) {
  Random random(2);
  for (const size_t width : widths) {
    const size_t rows = random.between(1, 9);
    const Values x = random.values(rows * width), weight = random.values(width), dy = random.values(rows * width);
    expect_rounded("width " + std::to_string(width), [&](Ops& ops, Array& array) {
      float* const rstd = array.fp32(poisoned(rows));
      ops.rms_norm_forward({.rows = rows,
                            .channels = width,
                            .epsilon = 1e-5f,
                            .x = x.data(),
                            .weight = weight.data(),
                            .y = array(poisoned(rows * width)),
                            .rstd = rstd});
      ops.rms_norm_backward({.rows = rows,
                             .channels = width,
                             .dy = array(dy),
                             .x = x.data(),
                             .weight = weight.data(),
                             .rstd = rstd,
                             .dx = array.fp32(poisoned(rows * width)),
                             .dx_halves = array.only_halves(rows * width),
                             .dweight = array.fp32(weight)});
    });
  }
}

// The residual's gradient as products have it is dx rounded, whatever the rest.
TEST(CudaHalves, TheNormsGradientAsHalvesIsItselfRounded) {
  Random random(3);
  const size_t rows = 5, width = 37;
  const Values x = random.values(rows * width), weight = random.values(width), statistic = random.values(rows);
  for (const HalfPrecision half : both_halves) {
    SimtOps ops(simt::Order::upward, Int8Arithmetic::m16n8k32, half);
    const Halves dy = halves_of(random.values(rows * width), half);
    Values dx = poisoned(rows * width), dweight = random.values(width), dbias = random.values(width);
    Halves dx_halves = poisoned_halves(rows * width);
    ops.rms_norm_backward({.rows = rows,
                           .channels = width,
                           .dy = dy.data(),
                           .x = x.data(),
                           .weight = weight.data(),
                           .rstd = statistic.data(),
                           .dx = dx.data(),
                           .dx_halves = dx_halves.data(),
                           .dweight = dweight.data()});
    EXPECT_EQ(dx_halves, halves_of(dx, half));
    ops.layer_norm_backward({.rows = rows,
                             .channels = width,
                             .dy = dy.data(),
                             .x = x.data(),
                             .weight = weight.data(),
                             .mean = statistic.data(),
                             .rstd = statistic.data(),
                             .dx = dx.data(),
                             .dx_halves = dx_halves.data(),
                             .dweight = dweight.data(),
                             .dbias = dbias.data()});
    EXPECT_EQ(dx_halves, halves_of(dx, half));
  }
}

TEST(CudaHalves, BiasBackward) {
  Random random(4);
  for (const size_t width : widths) {
    const Values dy = random.values(70 * width), sums = random.values(width);
    expect_rounded("width " + std::to_string(width), [&](Ops& ops, Array& array) {
      ops.bias_backward({.rows = 70, .channels = width, .block = 32, .dy = array(dy), .dbias = array.fp32(sums)});
    });
  }
}

TEST(CudaHalves, Gelu) {
  Random random(5);
  for (const size_t count : widths) {
    const Values x = random.values(count), dy = random.values(count);
    expect_rounded("count " + std::to_string(count), [&](Ops& ops, Array& array) {
      const FloatsOrHalves input = array(x), gradient = array(dy);
      ops.gelu_forward({.count = count, .x = input, .y = array(poisoned(count))});
      ops.gelu_backward({.count = count, .x = input, .dy = gradient, .dx = gradient});
    });
  }
}

TEST(CudaHalves, Swiglu) {
  Random random(6);
  for (const size_t inner : widths) {
    const size_t rows = random.between(1, 5);
    const Values x = random.values(2 * rows * inner), dy = random.values(rows * inner);
    expect_rounded("inner " + std::to_string(inner), [&](Ops& ops, Array& array) {
      const FloatsOrHalves gate_up = array(x);
      ops.swiglu_forward({.rows = rows, .inner = inner, .gate_up = gate_up, .y = array(poisoned(rows * inner))});
      ops.swiglu_backward({.rows = rows, .inner = inner, .gate_up = gate_up, .dy = array(dy), .dgate_up = gate_up});
    });
  }
}

TEST(CudaHalves, Rope) {
  Random random(7);
  for (const bool back : {false, true}) {
    const size_t tokens = 14, context = 7, heads = 3, head_size = 10, row = 45;
    const Values cos = random.values(context * head_size / 2), sin = random.values(context * head_size / 2);
    const Values x = random.values(tokens * row);
    expect_rounded(back ? "back" : "forth", [&](Ops& ops, Array& array) {
      ops.rope({.tokens = tokens,
                .context = context,
                .heads = heads,
                .head_size = head_size,
                .row = row,
                .cos = cos.data(),
                .sin = sin.data(),
                .x = array(x),
                .back = back});
    });
  }
}

TEST(CudaHalves, CrossEntropy) {
  Random random(8);
  for (const size_t vocabulary : {1, 31, 256, 4097}) {
    const size_t rows = random.between(1, 5);
    const auto targets = random.ids(rows, vocabulary);
    const Values logits = random.values(rows * vocabulary);
    for (const float scale : {0.0f, 0.125f}) {
      expect_rounded("vocabulary " + std::to_string(vocabulary), [&](Ops& ops, Array& array) {
        ops.cross_entropy({.rows = rows,
                           .vocabulary = vocabulary,
                           .row = vocabulary,
                           .logits = array(logits),
                           .targets = targets.data(),
                           .losses = array.fp32(poisoned(rows)),
                           .scale_gradient = scale});
      });
    }
  }
}

// What lies between rows is left alone.
TEST(CudaHalves, RowsOfLogitsMayLieApart) {
  Random random(9);
  const size_t rows = 3, vocabulary = 13, row = 16;
  const auto targets = random.ids(rows, vocabulary);
  for (const HalfPrecision half : both_halves) {
    SimtOps ops(simt::Order::upward, Int8Arithmetic::m16n8k32, half);
    const Halves tight = halves_of(random.values(rows * vocabulary), half);
    Halves apart(rows * row, 0x1234), expected = tight;
    Values losses = poisoned(rows), expected_losses = poisoned(rows);
    for (size_t i = 0; i < tight.size(); ++i) apart[i / vocabulary * row + i % vocabulary] = tight[i];
    CrossEntropy op{
        .rows = rows, .vocabulary = vocabulary, .row = vocabulary, .targets = targets.data(), .scale_gradient = 0.5f};
    op.logits = expected.data(), op.losses = expected_losses.data();
    ops.cross_entropy(op);
    op.logits = apart.data(), op.losses = losses.data(), op.row = row;
    ops.cross_entropy(op);
    expect_same_bits(losses, expected_losses, name_of(half));
    for (size_t i = 0; i < apart.size(); ++i)
      EXPECT_EQ(apart[i], i % row < vocabulary ? expected[i / row * vocabulary + i % row] : 0x1234) << i;
  }
}

TEST(CudaHalves, RoundToHalves) {
  Random random(10);
  for (const HalfPrecision half : both_halves) {
    SimtOps ops(simt::Order::upward, Int8Arithmetic::m16n8k32, half);
    for (const size_t count : {1, 4, 7, 5000}) {
      Values x = random.values(count + 1);
      for (const size_t first : {0, 1}) {  // aligned and not
        Halves y = poisoned_halves(count + 1);
        ops.round_to_halves({.count = count, .x = x.data() + first, .y = y.data()});
        Halves expected = halves_of(Values(x.begin() + static_cast<ptrdiff_t>(first), x.end()), half);
        expected.resize(count), expected.push_back(0x7fff);
        y.resize(count + 1);
        EXPECT_EQ(y, expected) << count << ", " << name_of(half);
      }
    }
  }
}

TEST(CudaHalves, HostOperationsRefuseThem) {
  const std::unique_ptr<Ops> ops = make_cpu_ops(1);
  EXPECT_THROW(ops->fast_matmul({}), std::logic_error);
  EXPECT_THROW(ops->round_to_halves({}), std::logic_error);
}

}  // namespace
}  // namespace kernels::cuda
