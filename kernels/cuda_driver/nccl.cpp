#include "cuda_driver/nccl.h"

#include "kernels/card_links.h"

namespace kernels {
namespace cuda {
namespace {

void* open_nccl(const char* name) {
  std::string why;
  if (void* library = open_library(name, why)) return library;
  throw CudaError("no NCCL (" + why + ")");
}

}  // namespace

std::string nccl_version_text(int version) {
  const int major = version < 10000 ? 1000 : 10000;
  return std::to_string(version / major) + "." + std::to_string(version % major / 100) + "." +
         std::to_string(version % 100);
}

Nccl::Nccl(const char* library)
    : library_(open_nccl(library)),
      error_string_(reinterpret_cast<const char* (*)(Result)>(symbol_of(library_, "ncclGetErrorString", "NCCL"))) {}

int Nccl::supported_version() const {
  int found = 0;
  if (const Result failed = ncclGetVersion.function(&found)) {
    throw CudaError("NCCL does not tell its version: ncclGetVersion gives " + std::to_string(failed));
  }
  if (found < needed_nccl_version) {
    throw CudaError("NCCL is too old: it is " + nccl_version_text(found) + ", needed is " +
                    nccl_version_text(needed_nccl_version) + " or later");
  }
  return found;
}

CudaError Nccl::error(const std::string& where, const char* call, Result result) const {
  const char* const description = error_string_(result);
  return CudaError(where + ": " + call + ": " + (description == nullptr ? "no description" : description) + " (" +
                   std::to_string(result) + ")");
}

}  // namespace cuda

std::string nccl_version() { return cuda::nccl_version_text(cuda::Nccl().version); }

}  // namespace kernels
