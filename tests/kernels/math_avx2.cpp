#include "cpu/vector_avx2.h"
#include "math_paths.h"

namespace kernels {

MathPath math_avx2() { return math_path_of<Avx2>(); }

}  // namespace kernels
