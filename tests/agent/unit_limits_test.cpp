#include "unit_limits.h"

#include <gtest/gtest.h>

#include "tiny_job.h"

namespace agent {
namespace {

constexpr uint64_t gigabyte = 1'000'000'000;

struct Asked {
  protocol::Unit unit;
  UnitDemand demand{.planned_bytes = 100'000'000,
                    .held_bytes = 0,
                    .download_bytes = 1'000'000,
                    .result_bytes = 1'000'000,
                    .estimated_seconds = 10};
  Limits limits{};
  uint64_t memory_available = gigabyte, deadline_s = 900;
};

std::string refusal(const Asked& asked) {
  try {
    check_limits(asked.unit, asked.demand, asked.limits, asked.memory_available, asked.deadline_s);
    return "";
  } catch (const UnitRefused& refused) {
    return refused.what();
  }
}

TEST(UnitLimits, EachIsNamed) {
  fakes::FakePool pool;
  const Asked good{TinyJob(pool).unit()};
  ASSERT_EQ(refusal(good), "");
  struct Case {
    const char* expected;
    std::function<void(Asked&)> change;
  };
  const Case cases[] = {
      {"parameters", [](Asked& a) { a.limits.parameters = a.unit.parameters - 1; }},
      {"tokens,", [](Asked& a) { a.limits.tokens = a.unit.tokens - 1; }},
      {"steps", [](Asked& a) { a.limits.steps = 2; }},
      {"rows a batch", [](Asked& a) { a.limits.batch = 1; }},
      {"context", [](Asked& a) { a.limits.context = 6; }},
      {"downloads", [](Asked& a) { a.demand.download_bytes = a.limits.download_mb * 1'000'000 + 1; }},
      {"result", [](Asked& a) { a.demand.result_bytes = a.limits.result_mb * 1'000'000 + 1; }},
      {"memory", [](Asked& a) { a.limits.memory_mb = 99; }},
      {"memory", [](Asked& a) { a.memory_available = 99'000'000; }},
      {"901 s here, allowed are 900 s", [](Asked& a) { a.demand.estimated_seconds = 901; }},
      {"11 s here, allowed are 10 s",
       [](Asked& a) {
         a.demand.estimated_seconds = 11;
         a.limits.seconds = 10;
       }},
  };
  for (const Case& one : cases) {
    Asked asked = good;
    one.change(asked);
    EXPECT_NE(refusal(asked).find(one.expected), std::string::npos) << one.expected << ": " << refusal(asked);
  }
}

TEST(UnitLimits, AResultIsAsLongAsItsModelAndCodecMakeIt) {
  fakes::FakePool pool;
  const TinyJob job(pool);
  protocol::Unit unit = job.unit();
  unit.max_result_bytes = 1;  // what the pool says of it does not count
  const uint64_t count = unit.parameters;
  EXPECT_EQ(result_bytes(unit, job.config), 32 + (count + 63) / 64 * 4 + (count + 1) / 2);
  unit.codec = "int8";
  EXPECT_EQ(result_bytes(unit, job.config), 32 + (count + 63) / 64 * 4 + count);
  unit.codec = "fp32";
  EXPECT_EQ(result_bytes(unit, job.config), 32 + 4 * count);
  unit.kind = protocol::UnitKind::evaluate;
  unit.batch = 300;
  EXPECT_EQ(result_bytes(unit, job.config), 32 + 4 * 3) << "a block has 147 rows of 7 tokens";
}

TEST(UnitLimits, MemoryThatThisProcessHoldsCounts) {
  fakes::FakePool pool;
  Asked asked{TinyJob(pool).unit()};
  asked.memory_available = 10'000'000;
  asked.demand.held_bytes = 90'000'000;
  EXPECT_EQ(refusal(asked), "");
}

// What a rig computes itself might differ from what another computes in the last bit.
TEST(UnitLimits, LlamasFrequenciesTravelInTheUnit) {
  fakes::FakePool pool;
  protocol::Unit unit = TinyJob(pool).unit();
  kernels::ModelConfig config{1, 2, 8, 16, 16, 12, 1e-5f, kernels::Family::llama, 1};
  config.rope_inverse_frequencies = {1.0f, 0.01f};
  unit.model = kernels::to_json(config);
  unit.parameters = kernels::parameter_count(config);
  EXPECT_EQ(check_understood(unit).rope_inverse_frequencies, config.rope_inverse_frequencies);

  unit.model.erase("rope_inverse_frequencies");
  try {
    check_understood(unit);
    ADD_FAILURE() << "accepted without frequencies";
  } catch (const UnitRefused& refused) {
    EXPECT_NE(std::string(refused.what()).find("rope_inverse_frequencies"), std::string::npos) << refused.what();
  }
}

TEST(UnitLimits, WhatIsNotUnderstoodIsRefused) {
  fakes::FakePool pool;
  const TinyJob job(pool);
  EXPECT_EQ(kernels::parameter_count(check_understood(job.unit())), job.unit().parameters);
  struct Case {
    const char* expected;
    std::function<void(protocol::Unit&)> change;
  };
  const Case cases[] = {
      {"exact-fp32/2", [](protocol::Unit& u) { u.profile = "exact-fp32/2"; }},
      {"exact-int8 ", [](protocol::Unit& u) { u.profile = "exact-int8"; }},  // which revision?
      {"fast/1", [](protocol::Unit& u) { u.profile = "fast/1"; }},           // which no pool can check
      {"codec", [](protocol::Unit& u) { u.codec = "sparse"; }},
      {"model", [](protocol::Unit& u) { u.model["n_head"] = 3; }},
      {"parameters", [](protocol::Unit& u) { u.parameters += 1; }},
      {"positions", [](protocol::Unit& u) { u.context = 17; }},
  };
  for (const Case& one : cases) {
    protocol::Unit unit = job.unit();
    one.change(unit);
    try {
      check_understood(unit);
      ADD_FAILURE() << one.expected << " was accepted";
    } catch (const UnitRefused& refused) {
      EXPECT_NE(std::string(refused.what()).find(one.expected), std::string::npos) << refused.what();
    }
  }
}

}  // namespace
}  // namespace agent
