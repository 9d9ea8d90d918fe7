// NVIDIA's driver, opened at run time: nothing of CUDA is linked, so one program runs with every driver from 450 on,
// and without any. The names are those of the driver's binary interface; what carries a _v2 has an older meaning
// without it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "cuda_driver/watched_thread.h"
#include "kernels/cuda_cards.h"

namespace kernels::cuda {

constexpr int needed_driver_version = 11000;  // CUDA 11.0: driver 450

using Result = int;
using Ordinal = int;
using DevicePointer = unsigned long long;
using Context = struct ContextOfDriver*;
using Stream = struct StreamOfDriver*;
using Event = struct EventOfDriver*;
using Module = struct ModuleOfDriver*;
using Function = struct FunctionOfDriver*;
using Graph = struct GraphOfDriver*;
using GraphExec = struct GraphExecOfDriver*;

namespace result {
constexpr Result success = 0, out_of_memory = 2, no_device = 100, not_found = 500, not_ready = 600;
// Of an image that the driver does not take: it is none that it knows, none for this card, PTX that it cannot read, or
// of a version that it does not, or cannot compile.
constexpr Result refusals[] = {200, 209, 218, 221, 222, 223};
}  // namespace result
namespace attribute {
constexpr int clock_kilohertz = 13, multiprocessors = 16;                    // of a device
constexpr int compute_capability_major = 75, compute_capability_minor = 76;  // likewise
constexpr int maximum_dynamic_shared_bytes = 8;                              // of a function
}  // namespace attribute
constexpr unsigned schedule_blocking_sync = 4;  // a waiting thread sleeps
constexpr unsigned stream_non_blocking = 1;     // no order with the default stream
constexpr unsigned event_disable_timing = 2;
constexpr int capture_of_this_thread = 1;  // calls of other threads neither disturb it nor fail for it
inline void* const launch_buffer_pointer = reinterpret_cast<void*>(1);
inline void* const launch_buffer_size = reinterpret_cast<void*>(2);

// The driver does not take the code: it is older than what compiled it, or the code is for another card.
class CodeRefused : public CudaError {
 public:
  using CudaError::CudaError;
};

// A library that the system's linker finds; it stays open. Null where it does not: `why`.
void* open_library(const char* name, std::string& why);

// Throws CudaError where the open library, which `owner` names in the message, lacks it.
void* symbol_of(void* library, const char* symbol, const char* owner);

// One function of an open library. Throws CudaError where it is not there.
template <typename... Arguments>
struct Call {
  Call(void* library, const char* symbol, const char* owner = "the CUDA driver")
      : name(symbol), function(reinterpret_cast<Result (*)(Arguments...)>(symbol_of(library, symbol, owner))) {}
  // On the watch of a thread that has one.
  Result operator()(Arguments... arguments) const {
    const WatchedCall noted(name);
    return function(arguments...);
  }
  const char* name;
  Result (*function)(Arguments...);
};

// "12.4" of 12040.
std::string version_text(int version);

// What captures a stream's launches as a graph. A driver without these is none that is too old: launches are then
// queued one by one, with the same bits.
struct GraphCalls {
  explicit GraphCalls(void* library) : library_(library) {}

 private:
  void* library_;

 public:
  const Call<Stream, int> cuStreamBeginCapture{library_, "cuStreamBeginCapture_v2"};
  const Call<Stream, Graph*> cuStreamEndCapture{library_, "cuStreamEndCapture"};
  const Call<GraphExec*, Graph, void*, char*, size_t> cuGraphInstantiate{library_, "cuGraphInstantiate_v2"};
  const Call<GraphExec, Stream> cuGraphLaunch{library_, "cuGraphLaunch"};
  const Call<GraphExec> cuGraphExecDestroy{library_, "cuGraphExecDestroy"};
  const Call<Graph> cuGraphDestroy{library_, "cuGraphDestroy"};
};

// The open driver. It stays open until the program ends; its functions may be called by any thread.
class Driver {
 private:
  void* library_;

 public:
  // Opens the driver and checks its version. Throws CudaError: found, needed, what to do.
  explicit Driver(const char* library = "libcuda.so.1");

  // Calls a function and throws CudaError where it fails; `where` names the device.
  template <typename... Arguments, typename... Given>
  void run(const std::string& where, const Call<Arguments...>& call, Given... given) const {
    if (const Result failed = call(given...)) fail(where, call.name, failed);
  }
  // Throws CudaOutOfMemory or CodeRefused where the result says so, else CudaError.
  [[noreturn]] void fail(const std::string& where, const char* call, Result result) const;

  const Call<int*> cuDriverGetVersion{library_, "cuDriverGetVersion"};
  const int version = supported_version();  // from here on all functions are there

  const Call<Result, const char**> cuGetErrorName{library_, "cuGetErrorName"};
  const Call<Result, const char**> cuGetErrorString{library_, "cuGetErrorString"};
  const Call<unsigned> cuInit{library_, "cuInit"};

  const Call<int*> cuDeviceGetCount{library_, "cuDeviceGetCount"};
  const Call<Ordinal*, int> cuDeviceGet{library_, "cuDeviceGet"};
  const Call<char*, int, Ordinal> cuDeviceGetName{library_, "cuDeviceGetName"};
  const Call<char*, int, Ordinal> cuDeviceGetPCIBusId{library_, "cuDeviceGetPCIBusId"};
  const Call<size_t*, Ordinal> cuDeviceTotalMem{library_, "cuDeviceTotalMem_v2"};
  const Call<int*, int, Ordinal> cuDeviceGetAttribute{library_, "cuDeviceGetAttribute"};

  const Call<Ordinal, unsigned> cuDevicePrimaryCtxSetFlags{library_, "cuDevicePrimaryCtxSetFlags_v2"};
  const Call<Context*, Ordinal> cuDevicePrimaryCtxRetain{library_, "cuDevicePrimaryCtxRetain"};
  const Call<Ordinal> cuDevicePrimaryCtxRelease{library_, "cuDevicePrimaryCtxRelease_v2"};
  const Call<Context> cuCtxSetCurrent{library_, "cuCtxSetCurrent"};
  const Call<Stream*, unsigned> cuStreamCreate{library_, "cuStreamCreate"};
  const Call<Stream> cuStreamDestroy{library_, "cuStreamDestroy_v2"};

  const Call<Event*, unsigned> cuEventCreate{library_, "cuEventCreate"};
  const Call<Event> cuEventDestroy{library_, "cuEventDestroy_v2"};
  const Call<Event, Stream> cuEventRecord{library_, "cuEventRecord"};
  const Call<Event> cuEventQuery{library_, "cuEventQuery"};

  const Call<size_t*, size_t*> cuMemGetInfo{library_, "cuMemGetInfo_v2"};
  const Call<DevicePointer*, size_t> cuMemAlloc{library_, "cuMemAlloc_v2"};
  const Call<DevicePointer> cuMemFree{library_, "cuMemFree_v2"};
  const Call<void**, size_t, unsigned> cuMemHostAlloc{library_, "cuMemHostAlloc"};
  const Call<void*> cuMemFreeHost{library_, "cuMemFreeHost"};
  const Call<DevicePointer, const void*, size_t, Stream> cuMemcpyHtoDAsync{library_, "cuMemcpyHtoDAsync_v2"};
  const Call<void*, DevicePointer, size_t, Stream> cuMemcpyDtoHAsync{library_, "cuMemcpyDtoHAsync_v2"};
  const Call<DevicePointer, DevicePointer, size_t, Stream> cuMemcpyDtoDAsync{library_, "cuMemcpyDtoDAsync_v2"};
  const Call<DevicePointer, unsigned char, size_t, Stream> cuMemsetD8Async{library_, "cuMemsetD8Async"};

  const Call<Module*, const void*> cuModuleLoadData{library_, "cuModuleLoadData"};
  const Call<Module> cuModuleUnload{library_, "cuModuleUnload"};
  const Call<Function*, Module, const char*> cuModuleGetFunction{library_, "cuModuleGetFunction"};
  const Call<Function, int, int> cuFuncSetAttribute{library_, "cuFuncSetAttribute"};
  const Call<Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream, void**, void**>
      cuLaunchKernel{library_, "cuLaunchKernel"};

  const std::optional<GraphCalls> graphs = find_graph_calls(library_);

 private:
  static std::optional<GraphCalls> find_graph_calls(void* library);
  int supported_version() const;
};

// The installed driver. Throws CudaError also where a call of it takes longer than `limit`; loading it is none.
Driver open_driver(std::chrono::milliseconds limit);

}  // namespace kernels::cuda
