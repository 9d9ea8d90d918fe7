// Any bytes as a .safetensors file: std::runtime_error is the only way out, and each tensor gives as many values as it
// says.
#include "files/safetensors.h"

#include <cstdlib>
#include <stdexcept>

#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    kernels::SafetensorsFile tensors(memory_file(data, size));
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
