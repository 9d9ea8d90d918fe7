// NVIDIA's library for passing memory between cards, opened at run time where it is present. Signatures as in nccl.h of
// versions 2.7 to 2.31, which agree.
#pragma once

#include <string>

#include "cuda_driver/driver.h"

namespace kernels::cuda {

constexpr int needed_nccl_version = 2700;  // the first with ncclSend and ncclRecv
constexpr int nccl_float32 = 7;

using Communicator = struct CommunicatorOfNccl*;  // one card's end

// "2.21.5" of 22105, "2.7.8" of 2708: the scheme changed with 2.9.
std::string nccl_version_text(int version);

// The open library. It stays open until the program ends. Several threads may call it, each for communicators of its
// own.
class Nccl {
 private:
  void* library_;

 public:
  // Opens the library and checks its version. Throws CudaError: found, needed.
  explicit Nccl(const char* library = "libnccl.so.2");

  // Calls a function and throws CudaError where it fails; `where` names the card.
  template <typename... Arguments, typename... Given>
  void run(const std::string& where, const Call<Arguments...>& call, Given... given) const {
    if (const Result failed = call.function(given...)) throw error(where, call.name, failed);
  }
  CudaError error(const std::string& where, const char* call, Result result) const;

  const Call<int*> ncclGetVersion{library_, "ncclGetVersion", "NCCL"};
  const int version = supported_version();  // from here on all functions are there

  const Call<Communicator*, int, const Ordinal*> ncclCommInitAll{library_, "ncclCommInitAll", "NCCL"};
  const Call<Communicator> ncclCommDestroy{library_, "ncclCommDestroy", "NCCL"};
  const Call<Communicator> ncclCommAbort{library_, "ncclCommAbort", "NCCL"};
  const Call<Communicator, Result*> ncclCommGetAsyncError{library_, "ncclCommGetAsyncError", "NCCL"};
  const Call<> ncclGroupStart{library_, "ncclGroupStart", "NCCL"};
  const Call<> ncclGroupEnd{library_, "ncclGroupEnd", "NCCL"};
  // memory, elements, their type, the other's rank
  const Call<const void*, size_t, int, int, Communicator, Stream> ncclSend{library_, "ncclSend", "NCCL"};
  const Call<void*, size_t, int, int, Communicator, Stream> ncclRecv{library_, "ncclRecv", "NCCL"};

 private:
  int supported_version() const;
  const char* (*const error_string_)(Result);
};

}  // namespace kernels::cuda
