// Any bytes as a .safetensors file: std::runtime_error is the only way out, and each tensor gives as many values as it
// says.
#include "files/safetensors.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("input", 0);
  static const std::string name = "/proc/self/fd/" + std::to_string(file);
  if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
  try {
    kernels::SafetensorsFile tensors(name);
    for (const auto& [tensor, stored] : tensors.tensors()) {
      size_t values = 0;
      try {
        tensors.read(tensor, [&](size_t first, std::span<const float> piece) {
          if (first != values) std::abort();
          values += piece.size();
        });
        if (values != stored.count) std::abort();
      } catch (const std::runtime_error&) {  // a dtype that weights do not have
      }
    }
  } catch (const std::runtime_error&) {
  }
  return 0;
}
