// The gradient of a bias, and the end of every sum over runs of rows.
#include "cuda/bias_args.h"
#include "cuda/grid.cuh"
#include "cuda/numbers.cuh"
#include "cuda/reduce.cuh"

namespace kernels::cuda {

#define BIAS_BACKWARD(suffix, Numbers)                                                 \
  extern "C" __global__ void bias_backward##suffix(const BiasBackwardArgs args) {      \
    static __shared__ RunPartials<1> partial;                                          \
    const auto dy = Numbers::in(args.dy);                                              \
    add_run_sums<1>(args.run, partial, [&](uint32_t row, uint32_t i, float(&acc)[1]) { \
      acc[0] = acc[0] + dy[uint64_t{row} * args.run.columns + i];                      \
    });                                                                                \
  }
#define BIAS_BACKWARD_OF_HALVES(suffix, Half) BIAS_BACKWARD(suffix, HalvesOf<Half>)

BIAS_BACKWARD(, Floats)
FOR_HALVES(BIAS_BACKWARD_OF_HALVES)

// The blocks' sums upward.
extern "C" __global__ void add_block_sums(const RunSums args) {
  const uint32_t blocks = (args.rows + args.block - 1) / args.block;
  for_each_row_and_column(args.sums, args.columns, [&](uint64_t sum, uint32_t column) {
    float* const out = sum == 0 ? args.out[0] : args.out[1];
    float total = out[column];
#pragma unroll 4
    for (uint32_t block = 0; block < blocks; ++block)
      total = total + args.block_sums[(uint64_t{block} * args.sums + sum) * args.columns + column];
    out[column] = total;
  });
}

}  // namespace kernels::cuda
