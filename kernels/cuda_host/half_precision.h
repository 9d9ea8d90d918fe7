// The halves of `fast` on a device (docs/numerics.md section 10).
#pragma once

#include <string>

#include "cuda_host/launch.h"
#include "kernels/ops.h"

namespace kernels::cuda {

// "bf16" or "fp16", as the kernels' names say; "" of none.
const char* name_of(HalfPrecision half);

// The name of a kernel that has a variant for fp32 and one for each kind of halves, by what `array` is of.
std::string variant(const char* kernel, ConstFloatsOrHalves array, HalfPrecision half);

// bf16 where the device's code has it (compute capability 8.0 and later); else fp16 where the code has that (7.5, and
// what the driver compiles for devices newer than the program) and a small product on the device is right, since a GTX
// 16xx says 7.5 and has no tensor cores; else none. Throws what the launcher throws.
HalfPrecision choose_half_precision(Launcher& device);

}  // namespace kernels::cuda
