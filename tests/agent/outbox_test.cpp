#include "outbox.h"

#include <gtest/gtest.h>

#include "temporary_folder.h"

namespace agent {
namespace {

namespace fs = std::filesystem;

protocol::Submission submission(const std::string& unit, const std::vector<uint8_t>& blob, uint64_t attempt = 1) {
  protocol::Submission result;
  result.lease = std::string(32, 'a');
  result.unit = unit;
  result.attempt = attempt;
  result.result = {protocol::sha256(blob), blob.size()};
  result.segments_root = protocol::sha256("segments");
  result.loss = 1.5f;
  result.tokens = 84;
  result.seconds = 2;
  return result;
}

class OutboxTest : public testing::Test {
 protected:
  fakes::TemporaryFolder folder;
  Outbox outbox{folder.path / "outbox"};
  const std::vector<uint8_t> blob = {1, 2, 3};
};

TEST_F(OutboxTest, KeepsItemsOverARestart) {
  outbox.put(submission("kjv.3.t0", blob), blob);
  Outbox again(folder.path / "outbox");
  ASSERT_EQ(again.names(), std::vector<std::string>{"kjv.3.t0.1"});
  const OutboxItem item = again.load("kjv.3.t0.1");
  EXPECT_EQ(protocol::to_json(item.submission), protocol::to_json(submission("kjv.3.t0", blob)));
  EXPECT_EQ(protocol::sha256_of_file(item.blob()), item.submission.result.digest);
  EXPECT_GT(again.bytes(), blob.size());
  again.remove("kjv.3.t0.1");
  EXPECT_TRUE(again.names().empty());
  EXPECT_EQ(again.bytes(), 0u);
}

TEST_F(OutboxTest, IsInOrderOfArrival) {
  for (const char* unit : {"kjv.9.t0", "kjv.10.t0", "kjv.2.t0"}) {
    const OutboxItem item = outbox.put(submission(unit, blob), blob);
    static int age = 100;
    fs::last_write_time(item.folder / "submission.json",
                        fs::file_time_type::clock::now() - std::chrono::seconds(age--));
  }
  EXPECT_EQ(outbox.names(), (std::vector<std::string>{"kjv.9.t0.1", "kjv.10.t0.1", "kjv.2.t0.1"}));
}

TEST_F(OutboxTest, PutAgainIsOneItem) {
  outbox.put(submission("kjv.3.t0", blob), blob);
  outbox.put(submission("kjv.3.t0", blob), blob);
  EXPECT_EQ(outbox.names().size(), 1u);
}

TEST_F(OutboxTest, WhatACrashLeftHalfMadeOrHalfRemovedIsCleared) {
  outbox.put(submission("kjv.3.t0", blob), blob);
  fs::create_directories(folder.path / "outbox/.making-kjv.4.t0.1");
  fakes::write_file(folder.path / "outbox/.making-kjv.4.t0.1/result.blob", "half");
  fs::create_directories(folder.path / "outbox/kjv.2.t0.1");  // its submission.json is removed first
  fakes::write_file(folder.path / "outbox/kjv.2.t0.1/result.blob", "sent");
  EXPECT_EQ(outbox.names(), std::vector<std::string>{"kjv.3.t0.1"});
  EXPECT_FALSE(fs::exists(folder.path / "outbox/.making-kjv.4.t0.1"));
  EXPECT_FALSE(fs::exists(folder.path / "outbox/kjv.2.t0.1"));
}

TEST_F(OutboxTest, DamageIsFound) {
  const OutboxItem item = outbox.put(submission("kjv.3.t0", blob), blob);
  fakes::write_file(item.blob(), "12");
  EXPECT_THROW(outbox.load("kjv.3.t0.1"), std::runtime_error);
  fakes::write_file(item.folder / "submission.json", "{\"lease\":");
  EXPECT_THROW(outbox.load("kjv.3.t0.1"), std::runtime_error);
}

TEST_F(OutboxTest, ADivergedUnitHasNoBlob) {
  protocol::Submission diverged = submission("kjv.3.t0", blob);
  diverged.diverged = true;
  diverged.tensor = "transformer.wte.weight";
  const OutboxItem item = outbox.put(diverged, {});
  EXPECT_FALSE(fs::exists(item.blob()));
  EXPECT_EQ(outbox.load("kjv.3.t0.1").submission.tensor, diverged.tensor);
}

TEST_F(OutboxTest, AFailedPutLeavesNothing) {
  fakes::write_file(folder.path / "outbox", "a file is in the way");
  EXPECT_THROW(outbox.put(submission("kjv.3.t0", blob), blob), std::runtime_error);
  EXPECT_TRUE(outbox.names().empty());
}

}  // namespace
}  // namespace agent
