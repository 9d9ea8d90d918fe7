#include "cuda_driver/driver.h"

#include <dlfcn.h>

#include <algorithm>

namespace kernels::cuda {
namespace {

void* open_driver_library(const char* name) {
  std::string why;
  if (void* library = open_library(name, why)) return library;
  throw CudaError("no CUDA driver (" + why + "); cards need NVIDIA's driver, 450 or later");
}

}  // namespace

void* open_library(const char* name, std::string& why) {
  void* const library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) why = dlerror();  // NOLINT(concurrency-mt-unsafe): glibc has one for each thread
  return library;
}

void* symbol_of(void* library, const char* symbol, const char* owner) {
  if (void* found = dlsym(library, symbol)) return found;
  throw CudaError(std::string(owner) + " lacks " + symbol + "; its installation is damaged, install it anew");
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Driver open_driver(std::chrono::milliseconds limit) {
  return in_time("the CUDA driver", limit, [] { return Driver(); });
}

Driver::Driver(const char* library) : library_(open_driver_library(library)) {}

std::optional<GraphCalls> Driver::find_graph_calls(void* library) {
  try {
    return GraphCalls(library);
  } catch (const CudaError&) {
    return std::nullopt;
  }
}

int Driver::supported_version() const {
  int found = 0;
  if (const Result failed = cuDriverGetVersion(&found)) {
    throw CudaError("the CUDA driver does not tell its version: cuDriverGetVersion gives " + std::to_string(failed));
  }
  if (found < needed_driver_version) {
    throw CudaError("the CUDA driver is too old: it supports CUDA " + version_text(found) + ", needed is CUDA " +
                    version_text(needed_driver_version) + " or later; install NVIDIA's driver, 450 or later");
  }
  return found;
}

void Driver::fail(const std::string& where, const char* call, Result result) const {
  const char *name = nullptr, *description = nullptr;  // the driver leaves null for a number that it does not know
  if (cuGetErrorName.function(result, &name) != result::success || name == nullptr) name = "unknown";
  if (cuGetErrorString.function(result, &description) != result::success || description == nullptr) {
    description = "no description";
  }
  const std::string what = where + ": " + call + ": " + description + " (" + name + ", " + std::to_string(result) + ")";
  if (result == result::out_of_memory) throw CudaOutOfMemory(what);
  if (std::ranges::count(result::refusals, result) > 0) throw CodeRefused(what);
  throw CudaError(what);
}

}  // namespace kernels::cuda
