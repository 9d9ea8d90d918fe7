// Opening the driver and listing cards, against a driver without cards (tests/fakes/fake_cuda.h).
#include "cuda_driver/cards.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "cuda_driver/code.h"

namespace kernels::cuda {
namespace {

constexpr char two_cards[] =
    "0000:0A:00.0,8.6,25447170048,NVIDIA GeForce RTX 3090;0000:02:00.0,6.1,6371475456,GTX 1060";

class CudaCards : public testing::Test {
 protected:
  void SetUp() override { environment(two_cards, "", ""); }
  static void environment(const char* cards, const char* version, const char* fail) {
    setenv("FAKE_CUDA_CARDS", cards, 1);
    setenv("FAKE_CUDA_VERSION", version, 1);
    setenv("FAKE_CUDA_FAIL", fail, 1);
  }
};

// What a driver that cannot be used says.
std::string refusal(const char* library) {
  try {
    const Driver driver(library);
    return "opened";
  } catch (const CudaError& error) {
    return error.what();
  }
}

TEST_F(CudaCards, NoDriver) {
  EXPECT_EQ(
      refusal("libcuda_that_is_not_there.so.1"),
      "no CUDA driver (libcuda_that_is_not_there.so.1: cannot open shared object file: No such file or directory); "
      "cards need NVIDIA's driver, 450 or later");
}

TEST_F(CudaCards, AnOldDriverLacksFunctionsAndIsNamedByItsVersion) {
  EXPECT_EQ(
      refusal(FAKE_CUDA_BEFORE_11),
      "the CUDA driver is too old: it supports CUDA 10.2, needed is CUDA 11.0 or later; install NVIDIA's driver, 450 "
      "or later");
}

TEST_F(CudaCards, TheOldestDriverThatWorks) {
  environment(two_cards, "11000", "");
  EXPECT_EQ(version_text(Driver(FAKE_CUDA).version), "11.0");
  environment(two_cards, "10999", "");
  EXPECT_NE(refusal(FAKE_CUDA), "opened");
}

TEST_F(CudaCards, AreOrderedByBus) {
  const Driver driver(FAKE_CUDA);
  const std::vector<CudaCard> found = cards(driver);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].bus_id, "0000:02:00.0");
  EXPECT_EQ(found[0].ordinal, 1);
  EXPECT_EQ(found[0].peak_flops, 2 * 2e3 * 16 * 128) << "of 16 multiprocessors at 2 kHz";
  EXPECT_EQ(found[0].name, "GTX 1060");
  EXPECT_EQ(found[0].memory_bytes, 6'371'475'456u);
  EXPECT_EQ(found[0].problem, "");
  EXPECT_EQ(found[0].code, embedded_code().empty() ? "" : "sm_61");
  EXPECT_EQ(found[1].bus_id, "0000:0A:00.0");
  EXPECT_EQ(found[1].ordinal, 0);
  EXPECT_EQ(found[1].major, 8);
  EXPECT_EQ(found[1].minor, 6);
}

TEST_F(CudaCards, NoCard) {
  environment("", "", "");
  const Driver driver(FAKE_CUDA);
  EXPECT_TRUE(cards(driver).empty());
}

TEST_F(CudaCards, ADriverThatDoesNotStart) {
  environment(two_cards, "", "cuInit,-1,999");
  const Driver driver(FAKE_CUDA);
  try {
    cards(driver);
    FAIL();
  } catch (const CudaError& error) {
    EXPECT_STREQ(error.what(), "the CUDA driver does not start: cuInit: no description (unknown, 999)");
  }
}

TEST_F(CudaCards, ACardThatFailsDoesNotHideTheOthers) {
  environment(two_cards, "", "cuDeviceTotalMem_v2,1,2");
  const Driver driver(FAKE_CUDA);
  std::vector<CudaCard> found = cards(driver);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].problem, "0000:02:00.0: cuDeviceTotalMem_v2: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)");
  EXPECT_EQ(found[1].problem, "");

  environment(two_cards, "", "cuDeviceGetPCIBusId,1,2");
  found = cards(driver);
  EXPECT_EQ(found[1].bus_id, "card 1") << "it sorts behind those that tell";
  EXPECT_EQ(found[1].problem, "card 1: cuDeviceGetPCIBusId: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)");
}

}  // namespace
}  // namespace kernels::cuda
