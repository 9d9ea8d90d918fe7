// What the tests of operations share: random values, and the comparison of every engine with the definition.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine.h"
#include "kernels/ops.h"

namespace kernels::test {

using Values = std::vector<float>;

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}

  size_t between(size_t low, size_t high) { return std::uniform_int_distribution<size_t>(low, high)(engine_); }

  // Normal values, with some zeros of both signs, denormals and large ones.
  Values values(size_t count) {
    Values x(count);
    for (float& v : x) {
      v = normal_(engine_);
      switch (engine_() % 64) {
        case 0:
          v = 0.0f;
          break;
        case 1:
          v = -0.0f;
          break;
        case 2:
          v *= 0x1p-140f;
          break;
        case 3:
          v *= 100;
          break;
      }
    }
    return x;
  }

  std::vector<uint16_t> ids(size_t count, size_t vocabulary) {
    std::vector<uint16_t> x(count);
    for (uint16_t& id : x) id = static_cast<uint16_t>(between(0, vocabulary - 1));
    return x;
  }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> normal_;
};

// What a test program compares with the definition; each program has its own.
std::vector<Engine> engines_under_test();

// Those, after the definition.
inline const std::vector<Engine>& engines() {
  static const std::vector<Engine> all = [] {
    std::vector<Engine> engines;
    engines.push_back({"reference", make_reference_ops()});
    for (Engine& engine : engines_under_test()) engines.push_back(std::move(engine));
    return engines;
  }();
  return all;
}

// The same bits, NaNs being alike.
inline void expect_same_bits(const Values& got, const Values& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::memcmp(&got[i], &expected[i], sizeof(float)) == 0 ||
                (got[i] != got[i] && expected[i] != expected[i]))
        << what << ", element " << i << ": " << got[i] << " for " << expected[i];
  }
}

// Runs `compute`, which returns all results of an operation, on every engine and compares the bits.
inline void expect_same(const std::string& what, const std::function<Values(Ops&)>& compute) {
  const Values expected = compute(*engines()[0].ops);
  for (size_t e = 1; e < engines().size(); ++e)
    expect_same_bits(compute(*engines()[e].ops), expected, what + ", " + engines()[e].name);
}

// For results: what an operation leaves out is seen.
inline Values poisoned(size_t count) { return Values(count, std::numeric_limits<float>::quiet_NaN()); }

inline Values joined(std::initializer_list<Values> parts) {
  Values all;
  for (const Values& p : parts) all.insert(all.end(), p.begin(), p.end());
  return all;
}

struct AttentionCase {
  size_t sequences, context, heads, kv_heads, head_size;

  size_t outputs() const { return sequences * context * heads * head_size; }
  size_t inputs() const { return sequences * context * (heads + 2 * kv_heads) * head_size; }
  std::string text() const {
    return "attention, context " + std::to_string(context) + ", " + std::to_string(heads) + " heads of " +
           std::to_string(head_size) + " on " + std::to_string(kv_heads);
  }
};

// Of both passes.
template <class T>
struct AttentionResults {
  std::vector<T> out, row_max, inverse_sum, dqkv;
};

// Both passes, of fp32 or halves.
inline void compute_attention(Ops& ops, const AttentionCase& shape, ConstFloatsOrHalves qkv, ConstFloatsOrHalves dout,
                              FloatsOrHalves out, Values& row_max, Values& inverse_sum, FloatsOrHalves dqkv) {
  const auto& [sequences, context, heads, kv_heads, head_size] = shape;
  Values workspace = poisoned(ops.attention_workspace(sequences * heads * context, context, head_size));
  ops.attention_forward({.sequences = sequences,
                         .context = context,
                         .heads = heads,
                         .kv_heads = kv_heads,
                         .head_size = head_size,
                         .qkv = qkv,
                         .out = out,
                         .row_max = row_max.data(),
                         .inverse_sum = inverse_sum.data(),
                         .workspace = workspace.data()});
  ops.attention_backward({.sequences = sequences,
                          .context = context,
                          .heads = heads,
                          .kv_heads = kv_heads,
                          .head_size = head_size,
                          .qkv = qkv,
                          .out = out,
                          .row_max = row_max.data(),
                          .inverse_sum = inverse_sum.data(),
                          .dout = dout,
                          .dqkv = dqkv,
                          .workspace = workspace.data()});
}

inline AttentionResults<float> attention_results(Ops& ops, const AttentionCase& shape, const Values& qkv,
                                                 const Values& dout) {
  const Values rows = poisoned(shape.sequences * shape.heads * shape.context);
  AttentionResults<float> r{poisoned(shape.outputs()), rows, rows, poisoned(shape.inputs())};
  compute_attention(ops, shape, qkv.data(), dout.data(), r.out.data(), r.row_max, r.inverse_sum, r.dqkv.data());
  return r;
}

// All in one.
inline Values attention(Ops& ops, const AttentionCase& shape, const Values& qkv, const Values& dout) {
  const AttentionResults<float> r = attention_results(ops, shape, qkv, dout);
  return joined({r.out, r.row_max, r.inverse_sum, r.dqkv});
}

}  // namespace kernels::test
