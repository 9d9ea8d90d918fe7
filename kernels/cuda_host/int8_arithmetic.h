// How a device multiplies int8 digits.
#pragma once

#include <functional>
#include <vector>

#include "cuda_host/gemm_library.h"
#include "cuda_host/launch.h"

namespace kernels::cuda {

// The ways of kernels/cuda/int8_matmul.cu, which give the same bits. A device's code has those that may serve it.
enum class Int8Arithmetic {
  fp32,      // compute capability 6.0
  dp4a,      // from 6.1 on, before 8.0
  m8n8k16,   // tensor cores: 7.5, and what the driver compiles for devices newer than the program
  m16n8k32,  // tensor cores: from 8.0 on
};
constexpr Int8Arithmetic all_int8_arithmetics[] = {Int8Arithmetic::fp32, Int8Arithmetic::dp4a, Int8Arithmetic::m8n8k16,
                                                   Int8Arithmetic::m16n8k32};

const char* name_of(Int8Arithmetic arithmetic);

// Those that the device's code has.
std::vector<Int8Arithmetic> int8_arithmetics(Launcher& device);

// The seconds of a clock that never goes back.
using Clock = std::function<double()>;
double monotonic_seconds();

// The one to use: the last that the code has; but m8n8k16 only where it gives the bits of dp4a and is faster, which a
// trial on the device tells (some milliseconds), since a GTX 16xx says 7.5 and has no tensor cores. Throws what the
// launcher throws, and std::runtime_error where the code has none.
Int8Arithmetic choose_int8_arithmetic(Launcher& device, const Clock& clock = monotonic_seconds);

// Whether the library multiplies digits with the same bits and faster, which a trial tells. Throws what the launcher
// throws.
bool library_is_faster(Launcher& device, Int8Arithmetic arithmetic, GemmLibrary& library,
                       const Clock& clock = monotonic_seconds);

}  // namespace kernels::cuda
