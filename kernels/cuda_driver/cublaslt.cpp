#include "cuda_driver/cublaslt.h"

namespace kernels {
namespace cuda {
namespace {

// A version of the library needs a driver of its own version of CUDA, or a later one.
void* open_cublaslt(int driver_version) {
  std::string why, problem;
  for (const int major : {13, 12, 11}) {
    if (major > driver_version / 1000) continue;
    const std::string name = "libcublasLt.so." + std::to_string(major);
    if (void* library = open_library(name.c_str(), problem)) return library;
    why += (why.empty() ? "" : "; ") + problem;
  }
  throw CudaError("no cuBLASLt (" + why + ")");
}

// The scheme changed during version 11.
size_t major_unit(size_t version) { return version < 100000 ? 1000 : 10000; }

const char* name_of(Result result) {
  switch (result) {
    case 1:
      return "not initialised";
    case 3:
      return "allocation failed";
    case 7:
      return "invalid value";
    case 8:
      return "architecture mismatch";
    case 11:
      return "mapping error";
    case 13:
      return "execution failed";
    case 14:
      return "internal error";
    case lt::not_supported:
      return "not supported";
    case 16:
      return "licence error";
    default:
      return "no description";
  }
}

}  // namespace

CublasLt::CublasLt(int driver_version)
    : library_(open_cublaslt(driver_version)),
      version(reinterpret_cast<size_t (*)()>(symbol_of(library_, "cublasLtGetVersion", owner))()) {}

size_t CublasLt::major_version() const { return version / major_unit(version); }

std::string CublasLt::version_text() const {
  return std::to_string(major_version()) + "." + std::to_string(version % major_unit(version) / 100) + "." +
         std::to_string(version % 100);
}

CublasLtError CublasLt::error(const std::string& where, const char* call, Result result) {
  return CublasLtError(where + ": " + call + ": " + name_of(result) + " (" + std::to_string(result) + ")");
}

}  // namespace cuda

std::string cublaslt_version() { return cuda::CublasLt(cuda::open_driver(cuda_timeout).version).version_text(); }

}  // namespace kernels
