// Cards linked by NCCL, but for NCCL (tests/fakes/fake_nccl.h) and the driver (tests/fakes/fake_cuda.h).
#include "cuda_driver/nccl.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "cuda_driver/card_ops.h"
#include "fake_cuda.h"
#include "fake_library.h"
#include "fake_nccl.h"
#include "kernels/card_links.h"
#include "kernels/cuda_cards.h"

namespace kernels::cuda {
namespace {

using Transfer = CardLinks::Transfer;
using Milliseconds = std::chrono::milliseconds;

// What the libraries of the tests saw; from now on they are also where the real ones are asked for.
fakes::FakeCuda& fake_cuda() {
  static auto& seen = fakes::seen_by<fakes::FakeCudaFunction>(FAKE_CUDA, "fake_cuda");
  return seen;
}
fakes::FakeNccl& fake_nccl() {
  static auto& seen = fakes::seen_by<fakes::FakeNcclFunction>(FAKE_NCCL, "fake_nccl");
  return seen;
}

std::string error_of(const std::function<void()>& body) { return fakes::error_of<CudaError>(body); }

// An array on a card.
class OnCard {
 public:
  OnCard(Ops& card, std::vector<float> values) : card_(card), count_(values.size()) {
    memory_ = static_cast<float*>(card.allocate(count_ * sizeof(float)));
    card.write(memory_, values.data(), count_ * sizeof(float));
  }
  OnCard(const OnCard&) = delete;
  OnCard& operator=(const OnCard&) = delete;
  ~OnCard() { card_.free(memory_); }

  float* memory() const { return memory_; }
  std::vector<float> values() const {
    std::vector<float> values(count_);
    card_.read(values.data(), memory_, count_ * sizeof(float));
    return values;
  }

 private:
  Ops& card_;
  const size_t count_;
  float* memory_;
};

class NcclTest : public testing::Test {
 protected:
  void SetUp() override {
    fake_cuda();
    fake_nccl() = {};
    for (const char* variable : {"FAKE_CUDA_FAIL", "FAKE_CUDA_HANG", "FAKE_NCCL_VERSION"}) unsetenv(variable);
    told("", "");
  }

  static void told(const char* fail, const char* hang) {
    setenv("FAKE_NCCL_FAIL", fail, 1);
    setenv("FAKE_NCCL_HANG", hang, 1);
  }

  // By bus id, which is not the order of the ordinals.
  void open(size_t count, Milliseconds timeout = cuda_timeout) {
    std::string list;
    for (size_t card = count; card-- > 0;) {
      list += "0000:0" + std::string(1, static_cast<char>('A' + card)) + ":00.0,8.6,6000000000,Card;";
    }
    setenv("FAKE_CUDA_CARDS", list.c_str(), 1);
    for (const CudaCard& card : cuda_cards().cards) {
      const auto note = [this](const std::string& line) { at_the_end_.push_back(line); };
      cards_.push_back(make_cuda_ops(card, timeout, {.give_back_failed = note}));
      ops_.push_back(cards_.back().get());
    }
  }
  std::unique_ptr<CardLinks> link() { return make_nccl_links(ops_); }

  // Whether a number of the stand-in's becomes that.
  static bool soon(int& number, int expected) {
    const std::atomic_ref now(number);
    for (int i = 0; i < 2000 && now != expected; ++i) std::this_thread::sleep_for(Milliseconds(1));
    return now == expected;
  }

  std::vector<std::string> at_the_end_;  // of links or cards
  std::vector<std::unique_ptr<Ops>> cards_;
  std::vector<Ops*> ops_;
};

TEST_F(NcclTest, VersionsAreReadInBothSchemes) {
  EXPECT_EQ(nccl_version(), "2.21.5");
  setenv("FAKE_NCCL_VERSION", "2708", 1);
  EXPECT_EQ(nccl_version(), "2.7.8");
  setenv("FAKE_NCCL_VERSION", "2604", 1);
  EXPECT_EQ(error_of([] { nccl_version(); }), "NCCL is too old: it is 2.6.4, needed is 2.7.0 or later");
}

TEST_F(NcclTest, WhereItIsMissingThatIsSaid) {
  EXPECT_EQ(error_of([] { Nccl("libnccl_that_is_not_there.so.2"); }),
            "no NCCL (libnccl_that_is_not_there.so.2: cannot open shared object file: No such file or directory)");
  EXPECT_EQ(error_of([] { Nccl{FAKE_CUDA}; }),
            "NCCL lacks ncclGetVersion; its installation is damaged, install it anew");
}

TEST_F(NcclTest, CardsPassToEachOther) {
  open(3);
  const std::unique_ptr<CardLinks> links = link();
  EXPECT_EQ(fake_nccl().ordinals, (std::vector<int>{2, 1, 0}));
  const OnCard a(*ops_[0], {1, 2, 3}), b(*ops_[1], {4, 5, 6}), c(*ops_[2], {7, 8, 9});
  const std::vector<Transfer> transfers{{0, 1, a.memory(), b.memory(), 1},
                                        {0, 1, a.memory() + 1, b.memory() + 2, 1},
                                        {1, 2, b.memory() + 1, c.memory(), 1},
                                        {2, 0, c.memory() + 1, a.memory() + 2, 1}};
  links->start(transfers);
  EXPECT_EQ(c.values(), (std::vector<float>{7, 8, 9})) << "nothing is there before wait()";
  links->wait();
  EXPECT_EQ(a.values(), (std::vector<float>{1, 2, 8}));
  EXPECT_EQ(b.values(), (std::vector<float>{1, 5, 2}));
  EXPECT_EQ(c.values(), (std::vector<float>{5, 8, 9}));
}

TEST_F(NcclTest, OneCardPassesToItself) {
  open(1);
  const std::unique_ptr<CardLinks> links = link();
  const OnCard array(*ops_[0], {1, 2});
  links->start(std::vector<Transfer>{{0, 0, array.memory(), array.memory() + 1, 1}});
  links->wait();
  EXPECT_EQ(array.values(), (std::vector<float>{1, 1}));
}

TEST_F(NcclTest, LinksAreDestroyedAndTheCardsAreGivenBack) {
  open(2);
  link().reset();
  EXPECT_EQ(fake_nccl().destroyed, 1);
  EXPECT_EQ(fake_nccl().communicators, 0);
  ops_.clear();
  cards_.clear();
  const fakes::FakeCuda& seen = fake_cuda();
  EXPECT_EQ(seen.contexts + seen.streams + seen.events + seen.allocations + seen.pinned, 0);
}

// All are ended, whatever one of them says.
TEST_F(NcclTest, LinksThatAreNotDestroyedAreNamed) {
  open(3);
  told("ncclCommDestroy,1", "");
  link().reset();
  EXPECT_EQ(at_the_end_, std::vector<std::string>{"0000:0B:00.0: ncclCommDestroy: unhandled system error (2)"});
}

TEST_F(NcclTest, WithoutNcclOrCardsThereAreNoLinks) {
  open(2);
  const std::unique_ptr<Ops> cpu = make_reference_ops();
  ops_.push_back(cpu.get());
  EXPECT_EQ(link(), nullptr);
  ops_.pop_back();
  setenv("FAKE_NCCL_VERSION", "2604", 1);
  EXPECT_EQ(link(), nullptr);
  EXPECT_EQ(fake_nccl().cliques, 0);
}

// Whatever fails: it is named, nothing is waited for, and the cards go on.
TEST_F(NcclTest, WhatFailsIsNamedAndAborted) {
  const std::pair<const char*, const char*> cases[] = {
      {"ncclCommInitAll,0", "0000:0A:00.0, 0000:0B:00.0: ncclCommInitAll: unhandled system error (2)"},
      {"ncclGroupStart,1", "0000:0A:00.0, 0000:0B:00.0: ncclGroupStart: unhandled system error (2)"},
      {"ncclSend,3", "0000:0B:00.0: ncclSend: unhandled system error (2)"},
      {"ncclRecv,3", "0000:0A:00.0: ncclRecv: unhandled system error (2)"},
      {"ncclGroupEnd,1", "0000:0A:00.0, 0000:0B:00.0: ncclGroupEnd: unhandled system error (2)"},
      {"transfer,0", "0000:0B:00.0: ncclRecv gave something else than 0000:0A:00.0 had sent"},
      {"ncclCommGetAsyncError,2", "0000:0A:00.0: ncclCommGetAsyncError: remote process exited (6)"}};
  open(2);
  const OnCard a(*ops_[0], {1, 2}), b(*ops_[1], {3, 4});
  for (const auto& [fail, expected] : cases) {
    fake_nccl() = {};
    told(fail, "");
    EXPECT_EQ(
        error_of([&] {
          const std::unique_ptr<CardLinks> links = link();
          links->start(std::vector<Transfer>{{0, 1, a.memory(), b.memory(), 1}, {1, 0, b.memory(), a.memory(), 1}});
          links->wait();
        }),
        expected);
    EXPECT_TRUE(soon(fake_nccl().communicators, 0)) << fail;
    EXPECT_EQ(fake_nccl().destroyed, 0) << fail;
    EXPECT_EQ(a.values().at(1), 2) << fail;
  }
}

// The card's own thread takes its context, and then the one that calls NCCL does not.
TEST_F(NcclTest, AContextThatIsNotTakenIsNamed) {
  setenv("FAKE_CUDA_FAIL", "cuCtxSetCurrent,1,201,1", 1);
  open(2);
  EXPECT_EQ(error_of([&] { link(); }), "0000:0A:00.0: cuCtxSetCurrent: no description (unknown, 201)");
  EXPECT_EQ(fake_nccl().cliques, 0);
}

TEST_F(NcclTest, CallsThatHangAreLeftBehind) {
  open(2, Milliseconds(50));
  told("", "ncclCommInitAll,0");
  EXPECT_EQ(error_of([&] { link(); }), "0000:0A:00.0, 0000:0B:00.0: ncclCommInitAll has not returned for 0.05 s");
  told("", "ncclGroupEnd,0");
  EXPECT_EQ(error_of([&] { link(); }), "0000:0A:00.0, 0000:0B:00.0: ncclGroupEnd has not returned for 0.05 s");
  told("", "ncclCommGetAsyncError,0");
  EXPECT_EQ(error_of([&] { link(); }), "0000:0A:00.0, 0000:0B:00.0: ncclCommGetAsyncError has not returned for 0.05 s");
  told("", "ncclCommDestroy,0");
  link().reset();
  EXPECT_EQ(at_the_end_,
            std::vector<std::string>{"0000:0A:00.0, 0000:0B:00.0: ncclCommDestroy has not returned for 0.05 s"});
  const OnCard still(*ops_[0], {1, 2});
  EXPECT_EQ(still.values(), (std::vector<float>{1, 2}));
  EXPECT_TRUE(soon(fake_nccl().aborted, 2)) << "of the links before";
}

TEST_F(NcclTest, MakingLinksCanBeCancelled) {
  open(2);
  told("", "ncclCommInitAll,0");
  int asked = 0;
  EXPECT_THROW(make_nccl_links(ops_, [&] { return ++asked == 2; }), Cancelled);
  EXPECT_EQ(asked, 2);
}

// The host reads the cards meanwhile; memory is given back when the abort has ended what hung.
TEST_F(NcclTest, TransfersThatHangAreAborted) {
  open(2, Milliseconds(500));
  told("", "transfer,1");
  std::unique_ptr<CardLinks> links = link();
  const OnCard a(*ops_[0], {1, 2}), b(*ops_[1], {3, 4});
  links->start(std::vector<Transfer>{{0, 1, a.memory(), b.memory(), 1}});
  EXPECT_EQ(error_of([&] { links->wait(); }),
            "0000:0A:00.0, 0000:0B:00.0: ncclSend and ncclRecv have not ended for 0.5 s");
  EXPECT_EQ(a.values(), (std::vector<float>{1, 2}));
  links.reset();
  EXPECT_TRUE(soon(fake_nccl().aborted, 1));
}

// Who frees memory waits for all that is queued on the card (the driver of the tests would end the program).
TEST_F(NcclTest, WhileATransferHangsNoMemoryIsFreed) {
  open(2, Milliseconds(50));
  told("", "transfer,1");
  std::unique_ptr<CardLinks> links = link();
  auto* const memory = static_cast<float*>(ops_[0]->allocate(sizeof(float)));
  auto* const other = static_cast<float*>(ops_[1]->allocate(sizeof(float)));
  links->start(std::vector<Transfer>{{0, 1, memory, other, 1}});
  EXPECT_THROW(links->wait(), CudaError);
  const int before = fake_cuda().allocations;
  ops_[0]->free(memory);
  EXPECT_EQ(fake_cuda().allocations, before);
  EXPECT_EQ(error_of([&] { ops_[0]->free_bytes(); }),
            "0000:0A:00.0: the card hangs: it has finished nothing for 0.05 s; restart the machine");
  links.reset();
  EXPECT_TRUE(soon(fake_nccl().aborted, 1)) << "the next test begins with another driver";
}

TEST_F(NcclTest, ACardThatHangsIsNamed) {
  setenv("FAKE_CUDA_HANG", "cuMemcpyHtoDAsync_v2,0,2", 1);
  open(2, Milliseconds(50));
  std::unique_ptr<CardLinks> links = link();
  const OnCard a(*ops_[0], {1, 2}), b(*ops_[1], {3, 4});
  ops_[1]->write(b.memory(), "1234", 4);
  EXPECT_EQ(error_of([&] {
              links->start(std::vector<Transfer>{{0, 1, a.memory(), b.memory(), 1}});
            }),
            "0000:0B:00.0: the card hangs: it has finished nothing for 0.05 s; restart the machine");
  links->give_up();
  links.reset();
  EXPECT_TRUE(soon(fake_nccl().aborted, 1));
}

// Else the tests would not see a mistake.
TEST_F(NcclTest, ItsStandInEndsAProgramThatWouldHang) {
  open(2);
  const Nccl nccl;
  const Ordinal ordinals[] = {1, 0};
  std::vector<Communicator> ranks(2);
  std::vector<Stream> streams;  // asked for here: a fork of the program has none of the cards' threads
  for (Ops* ops : ops_) {
    OpenCard& card = dynamic_cast<CardOps*>(ops)->card();
    streams.push_back(card.device.side_stream());
    card.driver.cuCtxSetCurrent(card.device.context());
  }
  ASSERT_EQ(nccl.ncclCommInitAll.function(ranks.data(), 2, ordinals), 0);
  const OnCard a(*ops_[0], {1, 2}), b(*ops_[1], {3, 4});
  const auto send = [&](size_t count) {
    return nccl.ncclSend.function(a.memory(), count, nccl_float32, 1, ranks[0], streams[0]);
  };
  const auto receive = [&](size_t count) {
    return nccl.ncclRecv.function(b.memory(), count, nccl_float32, 0, ranks[1], streams[1]);
  };
  EXPECT_DEATH(send(1), "ncclSend outside a group");
  nccl.ncclGroupStart.function();
  EXPECT_DEATH((send(1), nccl.ncclGroupEnd.function()), "a send without its receive: rank 0 to 1");
  EXPECT_DEATH((receive(1), nccl.ncclGroupEnd.function()), "a receive without its send");
  EXPECT_DEATH((send(1), receive(2), nccl.ncclGroupEnd.function()), "of different sizes: rank 0 to 1");
  EXPECT_DEATH(nccl.ncclSend.function(a.memory(), 1, nccl_float32, 1, ranks[0], streams[1]),
               "a stream of another card");
  EXPECT_EQ(nccl.ncclSend.function(b.memory(), 1, nccl_float32, 1, ranks[0], streams[0]), 4) << "another card's memory";
  EXPECT_EQ(nccl.ncclSend.function(a.memory(), 3, nccl_float32, 1, ranks[0], streams[0]), 4) << "too much";
  EXPECT_EQ(nccl.ncclGroupEnd.function(), 0);
  const Ordinal twice[] = {1, 1};
  EXPECT_DEATH(nccl.ncclCommInitAll.function(ranks.data(), 2, twice), "a card with two ranks");
  for (const Communicator rank : ranks) EXPECT_EQ(nccl.ncclCommDestroy.function(rank), 0);
}

}  // namespace
}  // namespace kernels::cuda
