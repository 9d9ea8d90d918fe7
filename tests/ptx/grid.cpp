#include "grid.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../simt/launch_limits.h"
#include "../simt/launcher.h"
#include "cpu/float_environment.h"
#include "warp.h"

namespace ptx {
namespace {

constexpr unsigned char nan_byte = 0xff;  // four of them are a NaN

void run_block(const Kernel& kernel, const Place& place, std::vector<Warp>& warps) {
  uint32_t first = 0;
  for (Warp& warp : warps) warp.begin(place, std::exchange(first, first + lanes_of_warp));
  for (;;) {
    for (Warp& warp : warps) warp.run();
    const Instruction* const barrier = warps.front().barrier();
    for (const Warp& warp : warps) {
      if (warp.barrier() != barrier)
        throw simt::Failure("kernel " + kernel.name + ": barrier divergence: not all warps wait at the same one");
    }
    if (!barrier) break;
    for (Warp& warp : warps) warp.pass_barrier();
  }
  for (const Warp& warp : warps) {
    if (!warp.copies.empty()) throw simt::Failure("kernel " + kernel.name + ": a thread has not waited for its copies");
  }
}

}  // namespace

void run_grid(const Kernel& kernel, const kernels::cuda::Launch& launch) {
  const auto& [gx, gy, gz] = launch.grid;
  const auto& [bx, by, bz] = launch.block;
  simt::check_limits(launch, kernel.args_bytes);
  if (bx * by * bz > kernel.most_threads)
    throw std::invalid_argument("launch of " + kernel.name + ": more threads than it was compiled for");

  const kernels::FloatEnvironment environment;
  std::vector<unsigned char> args(kernel.args_bytes);
  std::memcpy(args.data(), launch.args, args.size());
  std::vector<unsigned char> shared(kernel.static_shared_bytes + launch.shared_bytes);
  std::vector<Warp> warps;
  for (uint32_t first = 0; first < bx * by * bz; first += lanes_of_warp)
    warps.emplace_back(kernel, args.data(), shared);
  for (uint64_t block = 0; block < uint64_t{gx} * gy * gz; ++block) {
    const Place place{{static_cast<uint32_t>(block % gx), static_cast<uint32_t>(block / gx % gy),
                       static_cast<uint32_t>(block / gx / gy)},
                      {gx, gy, gz},
                      {bx, by, bz}};
    std::fill(shared.begin(), shared.end(), nan_byte);
    run_block(kernel, place, warps);
  }
}

}  // namespace ptx
