// Closing a round against plain loops written from docs/numerics.md, over several rounds so that the state counts too;
// and whole jobs in each codec.
#include "aggregate.h"

#include <cmath>
#include <cstring>
#include <random>

#include "admission.h"
#include "fake_rig.h"
#include "jobs.h"
#include "kernels/codec.h"
#include "kernels/files.h"
#include "protocol/blob.h"
#include "protocol/plan.h"
#include "rounds.h"

namespace pool::testing {
namespace {

std::vector<uint8_t> encoded(kernels::Codec codec, const std::vector<float>& values) {
  std::vector<uint8_t> bytes(kernels::encoded_bytes(codec, values.size()));
  kernels::encode(codec, values, bytes);
  return bytes;
}
std::vector<float> decoded(kernels::Codec codec, std::span<const uint8_t> bytes, size_t count) {
  std::vector<float> values(count);
  kernels::decode(codec, bytes, count, 0, values);
  return values;
}

// R(x), docs/numerics.md section 3.
float row_sum(const std::vector<float>& x) {
  float total = 0;
  for (size_t base = 0; base < x.size(); base += 4096) {
    float lane[32] = {}, next[32];
    for (size_t i = base; i < std::min(x.size(), base + 4096); ++i) lane[(i - base) % 32] += x[i];
    for (const int d : {16, 8, 4, 2, 1}) {
      for (int l = 0; l < 32; ++l) next[l] = lane[l] + lane[l ^ d];
      std::memcpy(lane, next, sizeof lane);
    }
    total += lane[0];
  }
  return total;
}

float norm(const Job& job, const std::vector<float>& x) {
  std::vector<float> sums;
  for (const kernels::Parameter& p : job.parameters) {
    std::vector<float> squares;
    for (size_t i = p.offset; i < p.offset + p.count; ++i) squares.push_back(x[i] * x[i]);
    sums.push_back(row_sum(squares));
  }
  return std::sqrt(row_sum(sums));
}

struct PlainState {
  std::vector<float> w, m, v, e;
};

// Section 6, one element at a time.
std::vector<uint8_t> plain_round(const Job& job, uint64_t round, const std::vector<std::vector<uint8_t>>& units,
                                 PlainState& s) {
  const protocol::JobDescription& d = job.description;
  const auto codec = static_cast<kernels::Codec>(protocol::codec_from_name(d.codec));
  const size_t n = s.w.size();
  std::vector<float> sum(n, 0.0f);
  for (const auto& unit : units) {
    const std::vector<float> x = decoded(codec, unit, n);
    const auto limit = static_cast<float>(d.clip_norm);
    const float with_epsilon = norm(job, x) + 1e-6f;
    const bool clips = limit > 0 && with_epsilon > limit;
    for (size_t i = 0; i < n; ++i) sum[i] = sum[i] + (clips ? x[i] * (limit / with_epsilon) : x[i]);
  }
  std::vector<float> change(n), next = s.w;
  const auto lanes = static_cast<float>(d.units_per_round * d.lanes_per_unit);
  const bool adamw = d.outer.name == "adamw";
  const protocol::InnerAdamW a = adamw ? protocol::outer_numbers(d.outer, round) : protocol::InnerAdamW{};
  const float lr = adamw ? 0 : protocol::outer_rate(d.outer, round), momentum = static_cast<float>(d.outer.momentum);
  for (const kernels::Parameter& p : job.parameters) {
    for (size_t i = p.offset; i < p.offset + p.count; ++i) {
      const float g = sum[i] / lanes;
      if (adamw) {
        s.m[i] = std::fma(a.beta1, s.m[i], a.one_minus_beta1 * g);
        s.v[i] = std::fma(a.beta2, s.v[i], (a.one_minus_beta2 * g) * g);
        if (p.shape.size() >= 2) next[i] = next[i] * a.steps[0].decay;
        next[i] = std::fma(-a.steps[0].step_size,
                           s.m[i] / std::fma(std::sqrt(s.v[i]), a.steps[0].inv_sqrt_bc2, a.epsilon), next[i]);
      } else {
        s.m[i] = std::fma(momentum, s.m[i], g);
        next[i] = std::fma(-lr, std::fma(momentum, s.m[i], g), next[i]);
      }
      change[i] = (next[i] - s.w[i]) + s.e[i];
    }
  }
  const std::vector<uint8_t> update = encoded(codec, change);
  const std::vector<float> applied = decoded(codec, update, n);
  for (size_t i = 0; i < n; ++i) {
    s.e[i] = change[i] - applied[i];
    s.w[i] = s.w[i] + applied[i];
  }
  return update;
}

struct Case {
  const char* name;
  const char* codec;
  const char* outer;
  double clip_norm;
};

class Aggregate : public ::testing::TestWithParam<Case> {};

// More elements than a chunk, and not a multiple of anything.
Job make_job(const Case& c) {
  Job job;
  nlohmann::json config = tiny_config();
  config["n_layer"] = 2u;
  config["n_embd"] = 46u;
  config["n_positions"] = 11u;
  config["vocab_size"] = 1237u;
  job.model = kernels::parse_model_config(config);
  job.parameters = kernels::parameters_of(job.model);
  protocol::JobDescription& d = job.description;
  d.codec = c.codec;
  d.parameters = kernels::parameter_count(job.model);
  d.units_per_round = 3;
  d.lanes_per_unit = 2;
  d.clip_norm = c.clip_norm;
  d.outer.name = c.outer;
  d.outer.lr = c.outer == std::string("adamw") ? 0.01 : 0.7;
  d.outer.momentum = 0.6;
  d.outer.weight_decay = 0.1;
  d.outer.warmup_rounds = 2;
  return job;
}

TEST_P(Aggregate, EqualsPlainLoopsOverThreeRounds) {
  const Job job = make_job(GetParam());
  const auto codec = static_cast<kernels::Codec>(protocol::codec_from_name(job.description.codec));
  const size_t n = job.description.parameters;
  ASSERT_GT(n, 65536u);
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 0.01f);
  const auto draw = [&] {
    std::vector<float> x(n);
    for (float& value : x) value = normal(random);
    return x;
  };
  const TemporaryFolder folder;
  int files = 0;
  const auto ops = kernels::make_cpu_ops(1);
  PlainState plain{draw(), std::vector<float>(n), std::vector<float>(n), std::vector<float>(n)};
  std::vector<float> m, v, e;
  for (uint64_t round = 0; round < 3; ++round) {
    std::vector<std::vector<uint8_t>> units;
    RoundInputs inputs;
    const std::vector<float> weights = plain.w;
    for (int i = 0; i < 3; ++i) units.push_back(encoded(codec, draw()));
    for (const auto& unit : units) {
      inputs.units.push_back(
          {unit, norm_of_payload(job.parameters, static_cast<protocol::CodecId>(codec), n, unit, *ops)});
      EXPECT_EQ(inputs.units.back().norm, norm(job, decoded(codec, unit, n)));
    }
    inputs.weights = weights;
    inputs.momentum = m;
    inputs.variance = v;
    inputs.residual = e;
    const RoundOutputs outputs =
        aggregate(job, round, inputs, *ops, [&] { return folder.path / std::to_string(++files); });
    const std::vector<uint8_t> update = plain_round(job, round, units, plain);

    const auto read = [](const StagedFile& file, size_t skip) {
      const std::vector<uint8_t> bytes = read_file(file.path());
      std::vector<float> values((bytes.size() - skip) / 4);
      std::memcpy(values.data(), bytes.data() + skip, 4 * values.size());
      return values;
    };
    EXPECT_EQ(read(outputs.weights, kernels::safetensors_header(job.model).size()), plain.w);
    const std::vector<uint8_t> published = read_file(outputs.update.path());
    EXPECT_EQ(std::vector<uint8_t>(published.begin() + 32, published.end()), update);
    protocol::parse_blob_header(published, published.size(), protocol::BlobKind::update,
                                static_cast<protocol::CodecId>(codec), n);
    m = read(outputs.momentum, 0);
    e = read(outputs.residual, 0);
    EXPECT_EQ(m, plain.m);
    EXPECT_EQ(e, plain.e);
    protocol::Sha256 state;
    state.update(bytes_of(plain.m));
    EXPECT_EQ(outputs.variance.has_value(), job.description.outer.name == "adamw");
    if (outputs.variance) {
      v = read(*outputs.variance, 0);
      EXPECT_EQ(v, plain.v);
      state.update(bytes_of(plain.v));
    }
    state.update(bytes_of(plain.e));
    EXPECT_EQ(outputs.state, state.finish());
    EXPECT_EQ(outputs.weights.digest(), protocol::sha256(read_file(outputs.weights.path())));
    EXPECT_EQ(outputs.update.digest(), protocol::sha256(published));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Settings, Aggregate,
    ::testing::Values(Case{"Int4Nesterov", "int4", "nesterov", 0}, Case{"Int4NesterovClipped", "int4", "nesterov", 0.7},
                      Case{"Fp32AdamW", "fp32", "adamw", 0}, Case{"Int4AdamWClipped", "int4", "adamw", 0.7},
                      Case{"Int8Nesterov", "int8", "nesterov", 0}, Case{"Int8AdamWClipped", "int8", "adamw", 0.7}),
    [](const auto& instance) { return instance.param.name; });

TEST(AggregateLimits, AStepThatOverflowsIsNoRound) {
  const Job job = make_job({"", "fp32", "nesterov", 0});
  const size_t n = job.description.parameters;
  const std::vector<float> weights(n, 1.0f);
  const std::vector<uint8_t> unit = encoded(kernels::Codec::fp32, std::vector<float>(n, 3e38f));
  RoundInputs inputs;
  inputs.units = {{unit, 0}, {unit, 0}};
  inputs.weights = weights;
  const TemporaryFolder folder;
  int files = 0;
  const auto ops = kernels::make_cpu_ops(1);
  EXPECT_THROW(aggregate(job, 0, inputs, *ops, [&] { return folder.path / std::to_string(++files); }), NotFinite);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path));  // nothing half-written stays
}

// What admission lets through: the largest elements of a finite norm, at the highest rate of a job.
TEST(AggregateLimits, NoResultsOfAFiniteNormOverflow) {
  for (const char* outer : {"nesterov", "adamw"}) {
    Job job = make_job({"", "fp32", outer, 0});
    job.description.outer.lr = 1e6;
    const size_t n = job.description.parameters;
    const std::vector<float> weights(n, 1.0f);
    std::vector<float> values(n, 0.0f);
    const auto ops = kernels::make_cpu_ops(1);
    const auto norm_with = [&](float element) {
      values[0] = element;
      return norm_of_payload(job.parameters, protocol::CodecId::fp32, n, encoded(kernels::Codec::fp32, values), *ops);
    };
    EXPECT_THROW(norm_with(1.85e19f), std::invalid_argument);
    EXPECT_NO_THROW(norm_with(1.84e19f));
    const std::vector<uint8_t> unit = encoded(kernels::Codec::fp32, values);
    RoundInputs inputs;
    for (uint64_t i = 0; i < job.description.units_per_round; ++i) inputs.units.push_back({unit, 1.84e19f});
    inputs.weights = weights;
    const TemporaryFolder folder;
    int files = 0;
    EXPECT_NO_THROW(aggregate(job, 0, inputs, *ops, [&] { return folder.path / std::to_string(++files); })) << outer;
  }
}

class WholeJob : public PoolFixture {};

TEST_F(WholeJob, AnOverflowStopsTheJobUnlessItIsOver) {
  Rig a = rig("alice");
  for (const char* name : {"cancelled", "running"}) {
    JobRequest request = tiny_job(name);
    request.description.codec = "fp32";
    create(request);
    advance();
    for (uint64_t i = 0; i < request.description.units_per_round; ++i) a.work(a.take());
    // As admission lets none through.
    std::vector<uint8_t> blob(protocol::blob_header_bytes + 4 * status(name).description.parameters, 0x7f);
    core->store.write([&](Db& db) {
      StagedWriter writer(core->store.temporary_path());
      writer.write(std::span<const uint8_t>(blob));
      StagedFile file = writer.finish();
      core->store.publish(db, file);
      execute(db, "UPDATE results SET digest = ?", file.digest());
    });
    if (name == std::string("cancelled")) cancel_job(*core, name);
    EXPECT_TRUE(close_round(*core, name));
  }
  EXPECT_EQ(status("cancelled").state, "cancelled");
  EXPECT_EQ(status("running").state, "diverged");
}

TEST_F(WholeJob, FinerCodecsStayCloserToFp32) {
  Rig a = rig("alice"), b = rig("bob");
  for (const char* codec : {"fp32", "int4", "int8"}) {
    JobRequest request = tiny_job(codec);
    request.description.codec = codec;
    const CreatedJob created = create(request);
    EXPECT_EQ(created.estimate.bytes_down,
              32 + protocol::payload_bytes(protocol::codec_from_name(codec), created.description.parameters));
    run({&a, &b}, codec);
    EXPECT_EQ(status(codec).state, "completed");
  }
  const auto loss = [&](const char* job) { return status(job).validation_loss.back().second; };
  EXPECT_NE(weights_digests("int8").back(), weights_digests("fp32").back());
  EXPECT_LT(std::abs(loss("int8") - loss("fp32")), std::abs(loss("int4") - loss("fp32")));
}

}  // namespace
}  // namespace pool::testing
