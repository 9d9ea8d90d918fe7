// fp32 as halves (docs/numerics.md section 10): weights, before a step's products.
#include "cuda/grid.cuh"
#include "cuda/numbers.cuh"
#include "cuda/round_to_halves_args.h"

namespace kernels::cuda {

#define ROUND_TO_HALVES(suffix, Half)                                                            \
  extern "C" __global__ void round_to_halves##suffix(const RoundToHalvesArgs args) {             \
    const auto y = HalvesOf<Half>::out(args.y);                                                  \
    const bool aligned = args.aligned != 0;                                                      \
    for_each_four(args.count, [&](uint64_t first, uint32_t inside) {                             \
      HalvesOf<Half>::store(y + first, load4(args.x + first, inside, aligned), inside, aligned); \
    });                                                                                          \
  }

FOR_HALVES(ROUND_TO_HALVES)

}  // namespace kernels::cuda
