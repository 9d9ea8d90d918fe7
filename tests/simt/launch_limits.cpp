#include "launch_limits.h"

#include <stdexcept>
#include <string>

namespace simt {
namespace {

void check(bool holds, const kernels::cuda::Launch& launch, const std::string& problem) {
  if (!holds) throw std::invalid_argument(std::string("launch of ") + launch.kernel + ": " + problem);
}

}  // namespace

void check_limits(const kernels::cuda::Launch& launch, size_t args_bytes) {
  const auto [gx, gy, gz] = launch.grid;
  const auto [bx, by, bz] = launch.block;
  check(gx > 0 && gy > 0 && gz > 0 && bx > 0 && by > 0 && bz > 0, launch, "an empty grid or block");
  check(gx <= 0x7fffffff && gy <= 65535 && gz <= 65535, launch, "the grid is too large");
  check(bx <= 1024 && by <= 1024 && bz <= 64 && uint64_t{bx} * by * bz <= maximum_threads, launch,
        "the block is too large");
  check(launch.shared_bytes <= maximum_shared_bytes, launch, "more than 227 KiB of shared memory");
  check(launch.args_bytes == args_bytes, launch,
        "arguments of " + std::to_string(launch.args_bytes) + " bytes for " + std::to_string(args_bytes));
  check(launch.args_bytes <= kernels::cuda::maximum_args_bytes, launch, "arguments of more than 4096 bytes");
}

}  // namespace simt
