// A host program may round in another direction, flush denormals and trap: every public entry point gives the same bits
// as ever, and the caller's setting back.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <functional>
#include <random>

#include "kernels/codec.h"
#include "kernels/training.h"
#include "model_test_util.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace kernels {
namespace {

using Values = std::vector<float>;

#if defined(__SSE__)
using Control = unsigned;
Control control() { return _mm_getcsr() & ~0x3fu; }  // without the exceptions that have happened
void set_control(Control setting) { _mm_setcsr(setting); }
// Down, up and towards zero, each with FTZ, DAZ, and traps for invalid operations, division by zero and overflow.
constexpr Control hostile[] = {0xb940, 0xd940, 0xf940};
#elif defined(__aarch64__)
using Control = uint64_t;
Control control() {
  Control setting;
  asm volatile("mrs %0, fpcr" : "=r"(setting));
  return setting;
}
void set_control(Control setting) { asm volatile("msr fpcr, %0" : : "r"(setting)); }
// Up, down and towards zero, each with FZ.
constexpr Control hostile[] = {0x1400000, 0x1800000, 0x1c00000};
#endif

void expect_unmoved(const std::string& what, const std::function<Values()>& compute) {
  const Values calm = compute();
  for (const Control setting : hostile) {
    const Control before = control();
    set_control(setting);
    const Values got = compute();
    const Control after = control();
    set_control(before);
    EXPECT_EQ(after, setting) << what << " changes the caller's setting";
    ASSERT_EQ(got.size(), calm.size()) << what;
    EXPECT_EQ(std::memcmp(got.data(), calm.data(), got.size() * sizeof(float)), 0)
        << what << " under " << std::hex << setting;
  }
}

// Of many magnitudes, so that every operation rounds and products are often denormal.
Values some_values(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  Values values(count);
  for (float& x : values) {
    x = std::bit_cast<float>(0x3f800000u | static_cast<uint32_t>(random() & 0x807fffff));
    if (random() % 2 == 0) x *= 0x1p-70f;
  }
  return values;
}

constexpr size_t rows = 48, width = 64, context = 12, heads = 4, kv_heads = 2, head_size = 16, vocabulary = 50;
constexpr size_t qkv_width = (heads + 2 * kv_heads) * head_size;

struct Inputs {
  Values x = some_values(rows * qkv_width, 1), y = some_values(rows * qkv_width, 2);
  Values weight = some_values(width, 3), bias = some_values(width, 4), angles = some_values(context * head_size, 5);
  std::vector<uint16_t> ids = std::vector<uint16_t>(rows, 7);
};

struct Case {
  const char* name;
  Values (*compute)(Ops&, const Inputs&);
};

// Memory for results, initially small numbers, so that what is added to them rounds.
Values room(size_t count) { return Values(count, 0x1.234568p-10f); }

const Case cases[] = {
    {"matmul",
     [](Ops& ops, const Inputs& in) {
       Values c = room(rows * rows);
       ops.matmul({.m = rows,
                   .n = rows,
                   .k = width,
                   .a = in.x.data(),
                   .a_row = width,
                   .b = in.y.data(),
                   .b_row = rows,
                   .c = c.data(),
                   .ldc = rows,
                   .bias = in.bias.data()});
       return c;
     }},
    {"embedding_forward",
     [](Ops& ops, const Inputs& in) {
       Values out = room(rows * width);
       ops.embedding_forward({.tokens = rows,
                              .channels = width,
                              .context = context,
                              .ids = in.ids.data(),
                              .wte = in.x.data(),
                              .wpe = in.y.data(),
                              .out = out.data()});
       return out;
     }},
    {"embedding_backward",
     [](Ops& ops, const Inputs& in) {
       Values dwte = room(vocabulary * width), dwpe = room(context * width);
       Values workspace(ops.embedding_workspace(vocabulary, width));
       ops.embedding_backward({.tokens = rows,
                               .channels = width,
                               .context = context,
                               .vocabulary = vocabulary,
                               .ids = in.ids.data(),
                               .dout = in.x.data(),
                               .dwte = dwte.data(),
                               .dwpe = dwpe.data(),
                               .workspace = workspace.data()});
       dwte.insert(dwte.end(), dwpe.begin(), dwpe.end());
       return dwte;
     }},
    {"layer_norm_forward",
     [](Ops& ops, const Inputs& in) {
       Values y = room(rows * width + 2 * rows);
       float* mean = y.data() + rows * width;
       ops.layer_norm_forward(
           {rows, width, 1e-5f, in.x.data(), in.weight.data(), in.bias.data(), y.data(), mean, mean + rows});
       return y;
     }},
    {"layer_norm_backward",
     [](Ops& ops, const Inputs& in) {
       Values dx = room(rows * width + 2 * width);
       float* dweight = dx.data() + rows * width;
       ops.layer_norm_backward({rows, width, 0, in.y.data(), in.x.data(), in.weight.data(), in.angles.data(),
                                in.angles.data() + rows, nullptr, dx.data(), nullptr, dweight, dweight + width});
       return dx;
     }},
    {"rms_norm_forward",
     [](Ops& ops, const Inputs& in) {
       Values y = room(rows * width + rows);
       ops.rms_norm_forward({rows, width, 1e-5f, in.x.data(), in.weight.data(), y.data(), y.data() + rows * width});
       return y;
     }},
    {"rms_norm_backward",
     [](Ops& ops, const Inputs& in) {
       Values dx = room(rows * width + width);
       ops.rms_norm_backward({rows, width, 0, in.y.data(), in.x.data(), in.weight.data(), in.angles.data(), nullptr,
                              dx.data(), nullptr, dx.data() + rows * width});
       return dx;
     }},
    {"bias_backward",
     [](Ops& ops, const Inputs& in) {
       Values dbias = room(width);
       ops.bias_backward({rows, width, 0, in.x.data(), dbias.data()});
       return dbias;
     }},
    {"gelu_forward",
     [](Ops& ops, const Inputs& in) {
       Values y = room(rows * width);
       ops.gelu_forward({y.size(), in.x.data(), y.data()});
       return y;
     }},
    {"gelu_backward",
     [](Ops& ops, const Inputs& in) {
       Values dx = room(rows * width);
       ops.gelu_backward({dx.size(), in.x.data(), in.y.data(), dx.data()});
       return dx;
     }},
    {"swiglu_forward",
     [](Ops& ops, const Inputs& in) {
       Values y = room(rows * width);
       ops.swiglu_forward({rows, width, in.x.data(), y.data()});
       return y;
     }},
    {"swiglu_backward",
     [](Ops& ops, const Inputs& in) {
       Values dx = room(rows * 2 * width);
       ops.swiglu_backward({rows, width, in.x.data(), in.y.data(), dx.data()});
       return dx;
     }},
    {"rope",
     [](Ops& ops, const Inputs& in) {
       Values x = in.x;
       const float* cos = in.angles.data();
       ops.rope({rows, context, heads, head_size, qkv_width, cos, cos + context * head_size / 2, x.data()});
       return x;
     }},
    {"attention_forward",
     [](Ops& ops, const Inputs& in) {
       const size_t sequences = rows / context, outputs = rows * heads * head_size;
       Values out = room(outputs + 2 * rows * heads),
              workspace(ops.attention_workspace(rows * heads, context, head_size));
       float* row_max = out.data() + outputs;
       ops.attention_forward({sequences, context, heads, kv_heads, head_size, in.x.data(), out.data(), row_max,
                              row_max + rows * heads, workspace.data()});
       return out;
     }},
    {"attention_backward",
     [](Ops& ops, const Inputs& in) {
       const size_t sequences = rows / context;
       const Values row_max(rows * heads, 3.0f), inverse_sum(rows * heads, 0.3f);
       Values dqkv = room(rows * qkv_width), workspace(ops.attention_workspace(rows * heads, context, head_size));
       ops.attention_backward({sequences, context, heads, kv_heads, head_size, in.x.data(), in.y.data(), row_max.data(),
                               inverse_sum.data(), in.y.data() + 100, dqkv.data(), workspace.data()});
       return dqkv;
     }},
    {"cross_entropy",
     [](Ops& ops, const Inputs& in) {
       Values logits(in.x.begin(), in.x.begin() + rows * vocabulary), losses(rows);
       ops.cross_entropy({rows, vocabulary, vocabulary, logits.data(), in.ids.data(), losses.data(), 0.01f});
       logits.insert(logits.end(), losses.begin(), losses.end());
       return logits;
     }},
    {"adamw",
     [](Ops& ops, const Inputs& in) {
       Values state = room(3 * width);
       const TensorEnd tensors[] = {{width / 2, true}, {width, false}};
       ops.adamw({2, tensors, 0.9f, 0.1f, 0.95f, 0.05f, 1e-8f, 0.999f, 1e-3f, 1.1f, in.x.data(), state.data(),
                  state.data() + width, state.data() + 2 * width});
       return state;
     }},
    {"nesterov",
     [](Ops& ops, const Inputs& in) {
       Values state = room(2 * width);
       ops.nesterov({width, 0.7f, 0.6f, in.x.data(), state.data(), state.data() + width});
       return state;
     }},
    {"row_sum", [](Ops& ops, const Inputs& in) { return Values{ops.row_sum(in.x.data(), in.x.size())}; }},
    {"sums_of_squares",
     [](Ops& ops, const Inputs& in) {
       const TensorEnd tensors[] = {{300}, {1000}};
       Values sums = room(2);
       ops.sums_of_squares(tensors, 2, in.x.data(), sums.data());
       return sums;
     }},
    {"add",
     [](Ops& ops, const Inputs& in) {
       Values y = in.y;
       ops.add(in.x.data(), y.data(), y.size());
       return y;
     }},
    {"scale",
     [](Ops& ops, const Inputs& in) {
       Values y = in.y;
       ops.scale(0.3f, y.data(), y.size());
       return y;
     }},
    {"subtract",
     [](Ops& ops, const Inputs& in) {
       Values out = room(in.x.size());
       ops.subtract(in.x.data(), in.y.data(), out.data(), out.size());
       return out;
     }},
    {"first_non_finite",
     [](Ops& ops, const Inputs& in) {
       Values x = in.x;
       const uint32_t signalling = 0x7fa00000;
       std::memcpy(&x[77], &signalling, sizeof signalling);
       return Values{std::bit_cast<float>(static_cast<uint32_t>(ops.first_non_finite(x.data(), x.size())))};
     }},
};

// Their threads start under the caller's setting too.
std::vector<std::function<std::unique_ptr<Ops>()>> engine_makers() {
  std::vector<std::function<std::unique_ptr<Ops>()>> makers = {make_reference_ops};
  for (const Simd simd : usable_simd()) makers.push_back([simd] { return make_cpu_ops(3, simd); });
  return makers;
}

TEST(Hostile, EveryOperation) {
  const Inputs inputs;
  for (const auto& make_ops : engine_makers()) {
    for (const Case& c : cases) {
      expect_unmoved(make_ops()->name() + " " + c.name, [&] { return c.compute(*make_ops(), inputs); });
    }
  }
}

class HostileModel : public testing::Test {
 protected:
  static constexpr size_t batch = 2, tokens = 9;
  const ModelConfig configs_[2] = {{2, 2, 16, 9, 31, 24, 1e-5f}, test::llama({2, 4, 2, 16, 9, 31, 24})};

  void expect_all(const std::string& what,
                  const std::function<Values(Ops&, const ModelConfig&, const Values&, const TokenBatch&)>& compute) {
    for (const ModelConfig& config : configs_) {
      const Values weights = test::some_weights(config, 1);
      const std::vector<uint16_t> ids = test::some_tokens(config, batch, tokens, 2);
      for (const auto& make_ops : engine_makers()) {
        expect_unmoved(make_ops()->name() + " " + what, [&] {
          return compute(*make_ops(), config, weights, {batch, tokens, ids});
        });
      }
    }
  }
};

TEST_F(HostileModel, Gradient) {
  expect_all("gradient", [](Ops& ops, const ModelConfig& config, const Values& weights, const TokenBatch& data) {
    Trainer trainer(config, batch, tokens, ops, Trainer::Purpose::gradient);
    Values result(weights.size());
    result.push_back(trainer.gradient(weights, data, std::span(result).first(weights.size())));
    return result;
  });
}

TEST_F(HostileModel, LocalSteps) {
  const LocalAdamW adamw = test::some_adamw(3, 0.05f);
  expect_all("local steps", [&](Ops& ops, const ModelConfig& config, const Values& weights, const TokenBatch& data) {
    Trainer trainer(config, batch, tokens, ops, Trainer::Purpose::local_steps);
    Values result(weights.size());
    const Values losses = trainer.local_steps(
        weights, adamw, [&](size_t) { return data; }, result);
    result.insert(result.end(), losses.begin(), losses.end());
    return result;
  });
}

TEST_F(HostileModel, EvaluationAndLogits) {
  expect_all("evaluation", [](Ops& ops, const ModelConfig& config, const Values& weights, const TokenBatch& data) {
    Trainer trainer(config, batch, tokens, ops, Trainer::Purpose::evaluate);
    Values result = trainer.evaluate(weights, data), logits(config.vocabulary);
    trainer.logits(weights, data.tokens.first(5), logits);
    result.insert(result.end(), logits.begin(), logits.end());
    return result;
  });
}

TEST_F(HostileModel, WeightsNormAndLanes) {
  expect_all("initial weights", [](Ops&, const ModelConfig& config, const Values& weights, const TokenBatch&) {
    Values result(weights.size());
    initialise_weights(config, 3, result.data());
    return result;
  });
  expect_all("norm", [](Ops& ops, const ModelConfig& config, const Values& weights, const TokenBatch&) {
    return Values{norm_of(ops, parameters_of(config), weights)};
  });
  expect_all("lanes", [](Ops& ops, const ModelConfig&, const Values& weights, const TokenBatch&) {
    LaneTree tree(3, weights.size() / 2, ops);
    for (size_t lane = 0; lane < 3; ++lane) tree.add(lane, std::span(weights).subspan(lane, weights.size() / 2));
    return Values(tree.sum().begin(), tree.sum().end());
  });
}

TEST(Hostile, Codecs) {
  const Values values = some_values(1000, 6);
  for (const Codec codec : {Codec::fp32, Codec::int4, Codec::int8}) {
    expect_unmoved("codec", [&] {
      std::vector<uint8_t> payload(encoded_bytes(codec, values.size()));
      encode(codec, values, payload);
      Values result(values.size());
      decode(codec, payload, values.size(), 0, result);
      for (const uint8_t byte : payload) result.push_back(std::bit_cast<float>(uint32_t{byte}));
      return result;
    });
  }
}

}  // namespace
}  // namespace kernels
