// What the stand-ins for NCCL (fake_nccl.cpp) and cuBLASLt (fake_cublaslt.cpp) ask of the driver of the tests. The
// driver exports it as fake_cuda_peers.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace fakes {

// Of one group, in streams of several cards: all copies are made when the first of these streams gets there.
struct Transfers {
  struct Copy {
    void* from;  // streams
    const void* source;
    void* to;
    void* target;
    size_t bytes;
  };
  std::vector<Copy> copies;
  bool never_end = false;
};

struct FakeCudaPeers {
  int (*current_ordinal)();  // of the thread's context; -1: none
  int (*ordinal)(void* stream);
  bool (*holds)(void* stream, const void* memory, size_t bytes);
  void (*queue)(std::shared_ptr<Transfers> transfers);
  void (*abort)(const std::shared_ptr<Transfers>& transfers);  // they end, and have copied nothing
  // What a library's call launches in a stream; while it runs, the memory of the stream's card is open. It may run
  // later, and again.
  void (*launch)(void* stream, const char* call, std::function<void()> work);
  char* (*take)(int ordinal, size_t bytes);  // of that card's memory; null where it has too little
  void (*give_back)(int ordinal, char* memory);
};

}  // namespace fakes
