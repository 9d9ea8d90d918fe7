// Which compiled kernels a card runs.
#include "cuda_driver/code.h"

#include <gtest/gtest.h>

#include <set>

namespace kernels::cuda {
namespace {

constexpr Code codes[] = {
    {"sm_60", {6, 0}, Kind::cubin, {}},        {"sm_61", {6, 1}, Kind::cubin, {}},
    {"sm_70", {7, 0}, Kind::cubin, {}},        {"sm_75", {7, 5}, Kind::cubin, {}},
    {"sm_80", {8, 0}, Kind::cubin, {}},        {"sm_86", {8, 6}, Kind::cubin, {}},
    {"compute_75", {7, 5}, Kind::ptx, {}},     {"sm_89", {8, 9}, Kind::cubin, {}},
    {"sm_90a", {9, 0}, Kind::exact_cubin, {}}, {"sm_100", {10, 0}, Kind::cubin, {}},
    {"sm_120", {12, 0}, Kind::cubin, {}},
};

std::string names_of(const std::vector<const Code*>& chosen) {
  std::string names;
  for (const Code* code : chosen) {
    if (!names.empty()) names += " ";
    names += code->name;
  }
  return names;
}

TEST(CudaCode, ExactThenLowerMinorThenPtx) {
  const std::pair<ComputeCapability, const char*> cases[] = {
      {{3, 5}, ""},
      {{5, 2}, ""},
      {{6, 0}, "sm_60"},
      {{6, 1}, "sm_61 sm_60"},
      {{6, 2}, "sm_61 sm_60"},
      {{7, 0}, "sm_70"},
      {{7, 2}, "sm_70"},
      {{7, 5}, "sm_75 sm_70 compute_75"},
      {{8, 0}, "sm_80 compute_75"},
      {{8, 6}, "sm_86 sm_80 compute_75"},
      {{8, 7}, "sm_86 sm_80 compute_75"},
      {{8, 9}, "sm_89 sm_86 sm_80 compute_75"},
      {{9, 0}, "sm_90a compute_75"},
      {{9, 1}, "compute_75"},
      {{10, 0}, "sm_100 compute_75"},
      {{10, 3}, "sm_100 compute_75"},
      {{11, 0}, "compute_75"},
      {{12, 0}, "sm_120 compute_75"},
      {{12, 1}, "sm_120 compute_75"},
      {{13, 0}, "compute_75"},
  };
  for (const auto& [card, names] : cases) EXPECT_EQ(names_of(choose_codes(codes, card)), names) << text(card);
}

TEST(CudaCode, PtxIsForHigherCapabilitiesOnly) {
  const Code ptx[] = {{"compute_75", {7, 5}, Kind::ptx, {}}};
  EXPECT_EQ(names_of(choose_codes(ptx, {7, 0})), "");
  EXPECT_EQ(names_of(choose_codes(ptx, {7, 5})), "compute_75");
  EXPECT_EQ(names_of(choose_codes(ptx, {8, 0})), "compute_75");
}

TEST(CudaCode, WhatFitsNoneIsAClearError) {
  try {
    code_for({5, 2});
    FAIL();
  } catch (const std::runtime_error& error) {
    const std::string wanted =
        embedded_code().empty() ? "built without CUDA code" : "no code for compute capability 5.2";
    EXPECT_NE(std::string(error.what()).find(wanted), std::string::npos) << error.what();
  }
}

// The program carries code for just the cards of the table above: the same file for each architecture, none empty.
TEST(CudaCode, TheProgramCarriesAllArchitectures) {
  if (embedded_code().empty()) GTEST_SKIP() << "built without CUDA code";
  std::set<std::string_view> names, expected;
  for (const Code& code : embedded_code()) {
    names.insert(code.name);
    const bool without_fast = code.capability.major < 7 || (code.capability.major == 7 && code.capability.minor < 5);
    EXPECT_EQ(code.images.size(), embedded_code().back().images.size() - (without_fast ? 3 : 0)) << code.name;
    for (const std::span<const std::byte> image : code.images) {
      ASSERT_GT(image.size(), 100u);
      const std::string_view begin(reinterpret_cast<const char*>(image.data()), 4);
      EXPECT_EQ(begin == "\177ELF", code.kind != Kind::ptx) << code.name;
      EXPECT_TRUE(code.kind != Kind::ptx || image.back() == std::byte{0});
    }
  }
  for (const Code& code : codes) {
    expected.insert(code.name);
    const Code& best = code_for(code.capability);
    EXPECT_EQ(best.capability, code.capability);
    EXPECT_EQ(best.kind, code.kind == Kind::ptx ? Kind::cubin : code.kind) << code.name;
  }
  EXPECT_EQ(names, expected);
}

}  // namespace
}  // namespace kernels::cuda
