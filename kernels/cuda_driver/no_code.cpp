// In place of what packaging/cuda/embed.py makes, where the program is built without CUDA code.
#include "cuda_driver/code.h"

namespace kernels::cuda {

std::span<const Code> embedded_code() { return {}; }

}  // namespace kernels::cuda
