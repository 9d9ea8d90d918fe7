// NCCL without cards, as a shared library for tests, over the driver of the tests (fake_cuda.h), which has to be open.
// It is strict where the real one would wait for ever or go astray, and ends the program there: a send without its
// receive or with another size, a stream of another card, calls outside a group, a thread without a context,
// communicators that are destroyed while something passes, or aborted without their card's context. An abort returns
// when the other ranks are told as well. Transfers happen when the program asks whether they have.
//
//   FAKE_NCCL_VERSION  what ncclGetVersion says; default 22105
//   FAKE_NCCL_BYTES    what each rank takes of its card's memory; default 0
//   FAKE_NCCL_FAIL     "SYMBOL,AFTER": once so many of these calls went well, they fail; as SYMBOL "transfer": a
//                      group's first transfer does not take place
//   FAKE_NCCL_HANG     "SYMBOL,AFTER": likewise, they never return; as SYMBOL "transfer": the group returns, and what
//                      it started never ends until it is aborted
//
// They are read by ncclGetVersion.
#pragma once

#include <cstddef>
#include <vector>

namespace fakes {

struct FakeNccl {
  std::vector<int> ordinals;  // of the newest clique's ranks
  int cliques = 0, destroyed = 0;
  // Written by std::atomic_ref, for tests that wait for what threads that are left behind do.
  int aborted = 0;
  int communicators = 0;  // alive now
  size_t groups = 0, transfers = 0, bytes = 0;
};

// Exported by the library as fake_nccl.
using FakeNcclFunction = FakeNccl& (*)();

}  // namespace fakes
