// An operand of `fast` as halves in memory (docs/numerics.md section 10), for a library that multiplies such.
#include "cuda/grid.cuh"
#include "cuda/halves.cuh"
#include "cuda/halves_copy_args.h"
#include "cuda/tile.cuh"

namespace kernels::cuda {
namespace {

// A thread for four neighbours; what is beyond the last column, up to four, becomes 0.
template <class Half>
__device__ void copy(const HalvesCopyArgs& p) {
  for_each_row_and_column(p.rows, (p.columns + 3) / 4, [&](uint64_t row, uint32_t group) {
    const uint32_t column = 4 * group;
    const Vector4 x = load4(p.x + row * p.x_stride + column, left(column, p.columns), p.aligned != 0);
    uint32_t* const y = p.y + (row * p.y_stride + column) / 2;
    y[0] = Half::pack(x.x[0], x.x[1]);
    y[1] = Half::pack(x.x[2], x.x[3]);
  });
}

}  // namespace

// Which capabilities have which: as in fast_matmul.cu.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 750
extern "C" __global__ void halves_copy_fp16(const HalvesCopyArgs args) { copy<Fp16>(args); }
#endif
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
extern "C" __global__ void halves_copy_bf16(const HalvesCopyArgs args) { copy<Bf16>(args); }
#endif

}  // namespace kernels::cuda
