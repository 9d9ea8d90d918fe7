#include "cpu/vector_avx512.h"
#include "math_paths.h"

namespace kernels {

MathPath math_avx512() { return math_path_of<Avx512>(); }

}  // namespace kernels
