// Products by cuBLASLt on a card, but for the library (tests/fakes/fake_cublaslt.h) and the driver
// (tests/fakes/fake_cuda.h): the bits of int8, what `fast` promises, and our own kernels where the library fails.
#include "cuda_driver/cublaslt.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "cuda/int8_matmul_args.h"
#include "cuda_driver/card_ops.h"
#include "cuda_driver/cards.h"
#include "fake_cublaslt.h"
#include "fake_cuda.h"
#include "fake_library.h"
#include "fast_test_util.h"
#include "golden.h"
#include "kernels/training.h"
#include "model_test_util.h"

namespace kernels::cuda {
namespace {

using kernels::test::GoldenUnit;
using test::Epilogue;
using test::expect_same_bits;
using test::FastProduct;
using test::ProductCase;
using test::Random;
using test::Values;
using Digits = std::vector<int8_t>;

constexpr char bus_id[] = "0000:0A:00.0";

// What the libraries of the tests saw; from now on they are also where the real ones are asked for.
fakes::FakeCuda& fake_cuda() {
  static auto& seen = fakes::seen_by<fakes::FakeCudaFunction>(FAKE_CUDA, "fake_cuda");
  return seen;
}
fakes::FakeCublasLt& fake_cublaslt() {
  static auto& seen = fakes::seen_by<fakes::FakeCublasLtFunction>(FAKE_CUBLASLT, "fake_cublaslt");
  return seen;
}

std::string error_of(const std::function<void()>& body) { return fakes::error_of<CudaError>(body); }

auto note(std::vector<std::string>& lines) {
  return [&lines](const std::string& line) { lines.push_back(line); };
}

// A card whose products all go through the library that it may.
class ByCublasLt {
  const Driver driver_;
  Device device_;
  std::vector<std::string> failures_;
  CublasLtProducts products_;
  CudaOps ops_;
  void* workspace_ = nullptr;

 public:
  explicit ByCublasLt(HalfPrecision half = HalfPrecision::bf16, std::chrono::milliseconds timeout = cuda_timeout)
      : device_(driver_, cards(driver_).at(0), code_for({8, 6}), timeout),
        products_(std::make_unique<const CublasLt>(driver_.version), device_, note(failures_)),
        ops_(device_, Int8Arithmetic::m16n8k32, half, {&products_, &products_}) {}
  ~ByCublasLt() { device_.free(workspace_); }

  CudaOps& ops() { return ops_; }
  void* workspace() {
    if (workspace_ == nullptr) workspace_ = device_.allocate(ops_.fast_workspace());
    return workspace_;
  }
  const std::vector<std::string>& failures() const { return failures_; }
};

// Without the library.
class ByKernels {
  const Driver driver_;
  Device device_;
  CudaOps ops_;

 public:
  explicit ByKernels(HalfPrecision half = HalfPrecision::bf16)
      : device_(driver_, cards(driver_).at(0), code_for({8, 6}), cuda_timeout),
        ops_(device_, Int8Arithmetic::m16n8k32, half) {}
  CudaOps& ops() { return ops_; }
};

class CublasLtTest : public testing::Test {
 protected:
  void SetUp() override {
    fake_cuda().launches.clear();
    run_ = fake_cuda().run;
    fake_cublaslt() = {};
    setenv("FAKE_CUDA_CARDS", (std::string(bus_id) + ",8.6,6371475456,Card").c_str(), 1);
    for (const char* variable : {"FAKE_CUDA_FAIL", "FAKE_CUDA_HANG", "FAKE_CUBLASLT_VERSION", "FAKE_CUBLASLT_FAIL"})
      unsetenv(variable);
  }
  void TearDown() override {
    fake_cuda().run = run_;
    EXPECT_EQ(fake_cuda().allocations, 0);
    EXPECT_EQ(fake_cublaslt().handles, 0);
    EXPECT_EQ(fake_cublaslt().descriptors, 0);
  }

  // How many launches there were of kernels with such a name.
  static ptrdiff_t launches_of(const std::string& prefix) {
    return std::ranges::count_if(fake_cuda().launches,
                                 [&](const auto& launch) { return launch.kernel.starts_with(prefix); });
  }

 private:
  std::function<void(const fakes::FakeLaunch&)> run_;
};

// Arrays in the memory of an Ops.
class Arrays {
 public:
  explicit Arrays(Ops& ops) : ops_(ops) {}
  Arrays(const Arrays&) = delete;
  Arrays& operator=(const Arrays&) = delete;
  ~Arrays() {
    for (void* memory : taken_) ops_.free(memory);
  }
  template <class T>
  T* put(const std::vector<T>& values) {
    taken_.push_back(ops_.allocate(values.size() * sizeof(T)));
    ops_.write(taken_.back(), values.data(), values.size() * sizeof(T));
    return static_cast<T*>(taken_.back());
  }
  Values get(const float* memory, size_t count) const {
    Values values(count);
    ops_.read(values.data(), memory, count * sizeof(float));
    return values;
  }

 private:
  Ops& ops_;
  std::vector<void*> taken_;
};

void check_fast(Random& random, const ProductCase& shape, ByCublasLt& card) {
  FastProduct product(random, shape, card.ops().half_precision());
  Arrays arrays(card.ops());
  FastMatmul op = product.operation([&](auto& array) { return arrays.put(array); });
  op.workspace = card.workspace();
  card.ops().fast_matmul(op);
  const auto get = [&](auto& array, const void* memory) {
    card.ops().read(array.data(), memory, array.size() * sizeof array[0]);
  };
  op.c.halves() ? get(product.c_halves, op.c.first()) : get(product.c, op.c.first());
  if (op.before_gelu) get(product.before_gelu, op.before_gelu);
  test::expect_right(product, shape.text());
}

TEST_F(CublasLtTest, FastProducts) {
  Random random(1);
  for (const HalfPrecision half : test::both_halves) {
    ByCublasLt card(half);
    for (const bool a_transposed : {false, true}) {
      for (const bool b_transposed : {false, true}) {
        for (const Epilogue epilogue : test::all_epilogues) {
          const size_t m = 8 * random.between(1, 5), n = 8 * random.between(1, 5), k = 8 * random.between(1, 6);
          check_fast(random, {m, n, k, a_transposed, b_transposed, epilogue, 8 * random.between(0, 1)}, card);
        }
      }
    }
  }
  EXPECT_EQ(fake_cublaslt().products.size(), 72u);
  EXPECT_EQ(launches_of("fast_matmul") + launches_of("gelu"), 0);
}

// As the library is told of it.
TEST_F(CublasLtTest, WhatFollowsAProduct) {
  Random random(1);
  ByCublasLt card;
  check_fast(random, {5, 8, 24, false, false, Epilogue::bias_and_residual}, card);
  check_fast(random, {5, 8, 24, false, false, Epilogue::halves}, card);
  check_fast(random, {5, 8, 24, false, false, Epilogue::gelu}, card);
  check_fast(random, {5, 8, 24, false, false, Epilogue::slope}, card);
  EXPECT_EQ(
      fake_cublaslt().products,
      (std::vector<std::string>{"bf16 5 x 8 x 24 + bias + addend", "bf16 5 x 8 x 24 to bf16",
                                "bf16 5 x 8 x 24 + bias, GELU to bf16", "bf16 5 x 8 x 24, GELU's slope to bf16"}));
}

// Version 11 has a mask of what may follow a product, which later ones do not know.
TEST_F(CublasLtTest, EpiloguesWithVersion11) {
  setenv("FAKE_CUBLASLT_VERSION", "111103", 1);
  Random random(2);
  ByCublasLt card(HalfPrecision::fp16);
  for (const Epilogue epilogue : test::all_epilogues) check_fast(random, {8, 8, 8, false, false, epilogue}, card);
  EXPECT_EQ(fake_cublaslt().products.size(), std::size(test::all_epilogues));
  EXPECT_EQ(launches_of("fast_matmul") + launches_of("gelu"), 0);
}

// Before 11.11 GELU is not left to it; nor where the result has gaps, which our own kernel of GELU does not know.
TEST_F(CublasLtTest, GeluWithOlderVersions) {
  setenv("FAKE_CUBLASLT_VERSION", "111000", 1);
  Random random(2);
  for (const HalfPrecision half : test::both_halves) {
    fake_cuda().launches.clear();
    fake_cublaslt().products.clear();
    ByCublasLt card(half);
    check_fast(random, {8, 16, 8, false, false, Epilogue::gelu}, card);
    check_fast(random, {8, 16, 8, false, true, Epilogue::slope}, card);
    EXPECT_EQ(fake_cublaslt().products.size(), 2u);
    EXPECT_EQ(launches_of("gelu_forward"), 1);
    EXPECT_EQ(launches_of("gelu_backward"), 1);
    check_fast(random, {8, 16, 8, false, false, Epilogue::gelu, 8}, card);
    EXPECT_EQ(fake_cublaslt().products.size(), 2u);
    EXPECT_EQ(launches_of("fast_matmul"), 1);
  }
}

// So where it has GELU, but no algorithm for it.
TEST_F(CublasLtTest, GeluWithoutAnAlgorithm) {
  Random random(4);
  ByCublasLt card;
  fake_cublaslt().without_gelu = true;
  check_fast(random, {8, 16, 8, false, false, Epilogue::gelu}, card);
  check_fast(random, {8, 16, 8, false, true, Epilogue::slope}, card);
  EXPECT_EQ(fake_cublaslt().products.size(), 2u);
  EXPECT_EQ(launches_of("gelu_forward"), 1);
  EXPECT_EQ(launches_of("gelu_backward"), 1);
  EXPECT_EQ(card.failures(), std::vector<std::string>());
}

// Arrays that are not aligned, and products without terms, are left to our own kernels.
TEST_F(CublasLtTest, FastProductsThatItDoesNotTake) {
  Random random(3);
  ByCublasLt card;
  check_fast(random, {5, 7, 16, false, false, Epilogue::bias_and_residual}, card);
  check_fast(random, {5, 8, 9, false, false, Epilogue::none}, card);
  check_fast(random, {8, 8, 8, false, false, Epilogue::halves, 4}, card);
  check_fast(random, {5, 8, 0, false, true, Epilogue::bias}, card);
  EXPECT_TRUE(fake_cublaslt().products.empty());
  EXPECT_EQ(launches_of("fast_matmul"), 4);
}

struct Int8Case {
  const char* name;
  std::function<void(Int8Matmul&, Arrays&)> change;
  bool taken;
};

// By the library where the form is its own; always the bits of our own kernels.
TEST_F(CublasLtTest, Int8Products) {
  constexpr size_t m = 20, n = 24, k = 48;
  const Int8Case cases[] = {
      {"plain", [](Int8Matmul&, Arrays&) {}, true},
      {"no scales", [](Int8Matmul& op, Arrays&) { op.a_scales = op.b_scales = nullptr; }, true},
      {"bias and residual",
       [](Int8Matmul& op, Arrays& arrays) {
         op.bias = arrays.put(Random(5).values(n)), op.residual = arrays.put(Random(6).values(m * n));
       },
       true},
      {"fewer terms", [](Int8Matmul& op, Arrays&) { op.k = 12; }, true},
      {"an odd number of terms", [](Int8Matmul& op, Arrays&) { op.k = 13; }, false},
      {"no terms", [](Int8Matmul& op, Arrays&) { op.k = 0; }, false},
      {"an odd number of columns", [](Int8Matmul& op, Arrays&) { op.n = 23; }, false},
      {"the residual is c", [](Int8Matmul& op, Arrays&) { op.residual = op.c; }, false},
      {"accumulated", [](Int8Matmul& op, Arrays&) { op.accumulate = true; }, false},
      {"two digits", [](Int8Matmul& op, Arrays&) { op.a_low = op.a; }, false},
      {"lines of a are neighbours", [](Int8Matmul& op, Arrays&) { op.a_row = 1, op.a_col = m; }, false},
      {"lines of b are neighbours", [](Int8Matmul& op, Arrays&) { op.b_row = n, op.b_col = 1; }, false},
      {"a in the middle of a row", [](Int8Matmul& op, Arrays&) { op.a += 8, op.k = 32; }, false},
  };
  Random random(7);
  Digits a(m * k), b(n * k);
  for (int8_t& digit : a) digit = static_cast<int8_t>(static_cast<int>(random.between(0, 254)) - 127);
  for (int8_t& digit : b) digit = static_cast<int8_t>(static_cast<int>(random.between(0, 254)) - 127);
  const Values a_scales = random.values(m), b_scales = random.values(n), c0 = random.values(m * n);
  for (const Int8Case& change : cases) {
    const auto result_by = [&](CudaOps& ops) {
      Arrays arrays(ops);
      Int8Matmul op{.m = m, .n = n, .k = k, .a = arrays.put(a), .a_row = k, .a_scales = arrays.put(a_scales)};
      op.b = arrays.put(b), op.b_row = 1, op.b_col = k, op.b_scales = arrays.put(b_scales);
      op.c = arrays.put(c0), op.ldc = n;
      change.change(op, arrays);
      ops.int8_matmul(op);
      return arrays.get(op.c, m * n);
    };
    fake_cublaslt().products.clear();
    const Values by_library = [&] {
      ByCublasLt card;
      return result_by(card.ops());
    }();
    EXPECT_EQ(fake_cublaslt().products.size(), change.taken ? 1u : 0u) << change.name;
    ByKernels card;
    expect_same_bits(by_library, result_by(card.ops()), change.name);
  }
}

// Of both families.
TEST_F(CublasLtTest, GoldenUnitsOfInt8) {
  for (const GoldenUnit& unit : kernels::test::read_golden(GOLDEN_FILE)) {
    if (unit.name != "int8_three_steps" && unit.name != "int8_llama") continue;
    fake_cublaslt().products.clear();
    ByCublasLt card;
    EXPECT_EQ(kernels::test::golden_digest(unit, card.ops()), unit.sha256) << unit.name;
    EXPECT_GT(fake_cublaslt().products.size(), 10u) << unit.name;
    EXPECT_EQ(card.failures(), std::vector<std::string>());
  }
}

const ModelConfig small_model{2, 1, 32, 9, 60, 64, 1e-5f};

Values gradient_by(Ops& ops, Profile profile, bool recompute = false) {
  const Values weights = kernels::test::some_weights(small_model, 21);
  const std::vector<uint16_t> tokens = kernels::test::some_tokens(small_model, 1, 9, 22);
  Values gradient(weights.size());
  Trainer trainer(small_model, 1, 9, ops, {Trainer::Purpose::gradient, recompute, profile});
  gradient.push_back(trainer.gradient(weights, {1, 9, tokens}, gradient));
  return gradient;
}

TEST_F(CublasLtTest, AGradientInFast) {
  const Values exact = gradient_by(*make_cpu_ops(1), Profile::exact_fp32);
  for (const HalfPrecision half : test::both_halves) {
    fake_cublaslt() = {};
    ByCublasLt card(half);
    const Values fast = gradient_by(card.ops(), Profile::fast);
    EXPECT_LT(test::relative_error(fast, exact), 8 * test::half_error(half)) << name_of(half);
    EXPECT_GT(test::relative_error(fast, exact), test::half_error(half) / 64) << name_of(half);
    EXPECT_EQ(fake_cublaslt().products.size(), 3u * (4 * 2 + 1)) << "of each layer, and of the head";
    const size_t algorithms = fake_cublaslt().algorithms;
    EXPECT_LT(algorithms, fake_cublaslt().products.size()) << "layers share them";
    if (half == HalfPrecision::fp16) continue;
    expect_same_bits(gradient_by(card.ops(), Profile::fast, true), fast, name_of(half));
    EXPECT_EQ(fake_cublaslt().algorithms, algorithms) << "and keep them";
  }
  EXPECT_EQ(launches_of("fast_matmul"), 0);
}

TEST_F(CublasLtTest, PlannedBytesAreWhatIsTaken) {
  ByCublasLt with;
  const Trainer::Settings settings{Trainer::Purpose::gradient, false, Profile::fast};
  const size_t planned = Trainer::planned_bytes(small_model, 1, 9, with.ops(), settings);
  const size_t before = with.ops().free_bytes();
  const Trainer trainer(small_model, 1, 9, with.ops(), settings);
  EXPECT_EQ(before - with.ops().free_bytes(), planned - with.ops().own_bytes());
  EXPECT_GT(planned, library_workspace_bytes);
}

// Whichever call fails, whenever: told once, and our own kernels go on.
TEST_F(CublasLtTest, AFailureIsToldOnce) {
  const char* const calls[] = {
      "cublasLtMatmulDescCreate",       "cublasLtMatmulDescSetAttribute",       "cublasLtMatrixLayoutCreate",
      "cublasLtMatmulPreferenceCreate", "cublasLtMatmulPreferenceSetAttribute", "cublasLtMatmulPreferenceDestroy",
      "cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmulAlgoConfigGetAttribute", "cublasLtMatmul"};
  Random random(8);
  for (const char* call : calls) {
    for (const char* after : {"0", "1"}) {
      setenv("FAKE_CUBLASLT_FAIL", (std::string(call) + ",14," + after).c_str(), 1);
      ByCublasLt card;
      check_fast(random, {5, 8, 8, false, true, Epilogue::gelu}, card);
      check_fast(random, {6, 8, 8, false, true, Epilogue::gelu}, card);
      ASSERT_EQ(card.failures().size(), 1u) << call;
      const std::string begin = std::string(bus_id) + ": " + call + ": internal error (14), of ";
      EXPECT_EQ(card.failures()[0].rfind(begin, 0), 0u) << card.failures()[0];
      const size_t products = fake_cublaslt().products.size();
      check_fast(random, {5, 8, 8, false, true, Epilogue::gelu}, card);
      EXPECT_EQ(fake_cublaslt().products.size(), products) << "it is not asked again";
      EXPECT_EQ(card.failures().size(), 1u) << call;
    }
  }
}

TEST_F(CublasLtTest, AFailureAtTheEndIsTold) {
  for (const char* call : {"cublasLtMatmulDescDestroy", "cublasLtMatrixLayoutDestroy", "cublasLtDestroy"}) {
    setenv("FAKE_CUBLASLT_FAIL", (std::string(call) + ",14,0").c_str(), 1);
    std::vector<std::string> failures, at_the_end;
    {
      const Driver driver;
      Device device(driver, cards(driver).at(0), code_for({8, 6}), cuda_timeout, note(at_the_end));
      CublasLtProducts products(std::make_unique<const CublasLt>(driver.version), device, note(failures));
      CudaOps ops(device, Int8Arithmetic::m16n8k32, HalfPrecision::bf16, {&products, &products});
      gradient_by(ops, Profile::fast);
    }
    EXPECT_EQ(at_the_end, std::vector<std::string>{std::string(bus_id) + ": " + call + ": internal error (14)"});
    EXPECT_TRUE(failures.empty());
  }
}

TEST_F(CublasLtTest, AFailureAmongInt8ProductsChangesNoBit) {
  setenv("FAKE_CUBLASLT_FAIL", "cublasLtMatmul,13,3", 1);
  ByCublasLt card;
  const Values int8 = gradient_by(card.ops(), Profile::exact_int8);
  EXPECT_EQ(card.failures().size(), 1u);
  expect_same_bits(int8, gradient_by(*make_cpu_ops(1), Profile::exact_int8), "int8");
}

// One that it does not take is no failure.
TEST_F(CublasLtTest, NotSupportedIsNoFailure) {
  setenv("FAKE_CUBLASLT_FAIL", "cublasLtMatmulAlgoGetHeuristic,15,0", 1);
  ByCublasLt card;
  gradient_by(card.ops(), Profile::fast);
  EXPECT_EQ(card.failures(), std::vector<std::string>());
  EXPECT_TRUE(fake_cublaslt().products.empty());
}

// The card's failures are the card's.
TEST_F(CublasLtTest, ACardThatFailsOrHangs) {
  setenv("FAKE_CUDA_FAIL", "cuLaunchKernel,0,719,20", 1);
  {
    ByCublasLt card;
    EXPECT_EQ(error_of([&] { gradient_by(card.ops(), Profile::fast); }).rfind(bus_id, 0), 0u);
    EXPECT_EQ(card.failures(), std::vector<std::string>());
  }
  unsetenv("FAKE_CUDA_FAIL");
  setenv("FAKE_CUDA_HANG", "cublasLtMatmul,0,2", 1);
  {
    ByCublasLt card(HalfPrecision::bf16, std::chrono::milliseconds(50));
    EXPECT_EQ(error_of([&] { gradient_by(card.ops(), Profile::fast); }),
              std::string(bus_id) + ": the card hangs: it has finished nothing for 0.05 s; restart the machine");
    EXPECT_EQ(card.failures(), std::vector<std::string>());
  }
  EXPECT_EQ(fake_cublaslt().handles, 1) << "the card keeps it";
  fake_cublaslt() = {};
  fake_cuda().allocations = 0;
}

// Else the other tests would not see a wrong array.
TEST_F(CublasLtTest, TheStandInFindsMemoryOfTheHost) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a card has a thread, which fork() does not copy
  ByCublasLt card;
  Arrays arrays(card.ops());
  std::vector<char> on_host(card.ops().fast_workspace());
  Random random(1);
  FastProduct product(random, {8, 8, 8, false, false, Epilogue::none}, HalfPrecision::bf16);
  FastMatmul op = product.operation([&](auto& array) { return arrays.put(array); });
  op.workspace = on_host.data();
  EXPECT_DEATH(card.ops().fast_matmul(op), "a workspace that is not there");
}

TEST_F(CublasLtTest, Versions) {
  const auto text = [](const char* version) {
    setenv("FAKE_CUBLASLT_VERSION", version, 1);
    fake_cublaslt();
    return CublasLt(12040).version_text();
  };
  EXPECT_EQ(text("120903"), "12.9.3");
  EXPECT_EQ(text("11401"), "11.4.1");
  EXPECT_EQ(text("111103"), "11.11.3");
  EXPECT_EQ(text("131000"), "13.10.0");
  fake_cuda();
  EXPECT_EQ(cublaslt_version(), "13.10.0");
  EXPECT_EQ(error_of([] { CublasLt before_11(10020); }), "no cuBLASLt ()");
}

// make_cuda_ops() tries whether it is faster. Neither computes anything here, so their results agree; our own kernels
// take the time that they are given.
class CublasLtTrial : public CublasLtTest {
 protected:
  void open(std::chrono::milliseconds own_time, bool same_bits = true) {
    fake_cuda().run = [=](const fakes::FakeLaunch& launch) {
      if (!launch.kernel.starts_with("int8_matmul_64") && !launch.kernel.starts_with("int8_matmul_128")) return;
      std::this_thread::sleep_for(own_time);
      Int8MatmulArgs args;
      std::memcpy(&args, launch.args.data(), sizeof args);
      if (!same_bits) args.c[args.m * args.ldc - 1] = 1;
    };
    make_cuda_ops(cuda_cards().cards.at(0), cuda_timeout, {note(uses), note(failures)});
  }
  std::vector<std::string> uses, failures;
};

TEST_F(CublasLtTrial, WhereItIsFaster) {
  fake_cublaslt().instead = [] {};
  open(std::chrono::milliseconds(2));
  EXPECT_EQ(uses,
            std::vector<std::string>{std::string(bus_id) + ": cuBLASLt 12.9.3 for int8, cuBLASLt 12.9.3 for fast"});
  EXPECT_TRUE(failures.empty());
}

TEST_F(CublasLtTrial, WhereOwnKernelsAreFasterOrItsBitsAreOthers) {
  fake_cublaslt().instead = [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  open(std::chrono::milliseconds(0));
  fake_cublaslt().instead = [] {};
  open(std::chrono::milliseconds(2), false);
  const std::string line = std::string(bus_id) + ": own kernels for int8, cuBLASLt 12.9.3 for fast";
  EXPECT_EQ(uses, (std::vector<std::string>{line, line}));
  EXPECT_TRUE(failures.empty());
}

TEST_F(CublasLtTrial, WhereItFails) {
  setenv("FAKE_CUBLASLT_FAIL", "cublasLtMatmul,14,0", 1);
  open(std::chrono::seconds(0));
  setenv("FAKE_CUBLASLT_FAIL", "cublasLtCreate,1,0", 1);
  open(std::chrono::seconds(0));
  EXPECT_TRUE(uses.empty());
  EXPECT_EQ(failures, (std::vector<std::string>{
                          std::string(bus_id) + ": cublasLtMatmul: internal error (14), of 1024 x 1024 x 1024",
                          std::string(bus_id) + ": cublasLtCreate: not initialised (1)"}));
}

}  // namespace
}  // namespace kernels::cuda
