#include "grid.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <stdexcept>
#include <utility>

#include "../simt/launch_limits.h"
#include "../simt/launcher.h"
#include "cpu/float_environment.h"

namespace ptx {

constexpr unsigned char nan_byte = 0xff;  // four of them are a NaN

void LoadedKernel::run_block(const Place& place, size_t warps) {
  std::fill(shared_.begin(), shared_.end(), nan_byte);
  const std::span<Warp> all(warps_.data(), warps);
  uint32_t first = 0;
  for (Warp& warp : all) warp.begin(place, std::exchange(first, first + lanes_of_warp));
  for (;;) {
    for (Warp& warp : all) warp.run();
    const Instruction* const barrier = all.front().barrier();
    for (const Warp& warp : all) {
      if (warp.barrier() != barrier)
        throw simt::Failure("kernel " + kernel_.name + ": barrier divergence: not all warps wait at the same one");
    }
    if (!barrier) break;
    for (Warp& warp : all) warp.pass_barrier();
  }
  for (const Warp& warp : all) {
    if (!warp.copies.empty())
      throw simt::Failure("kernel " + kernel_.name + ": a thread has not waited for its copies");
  }
}

void LoadedKernel::run(const kernels::cuda::Launch& launch) {
  const auto& [gx, gy, gz] = launch.grid;
  const auto& [bx, by, bz] = launch.block;
  simt::check_limits(launch, kernel_.args_bytes);
  if (bx * by * bz > kernel_.most_threads)
    throw std::invalid_argument("launch of " + kernel_.name + ": more threads than it was compiled for");

  const kernels::FloatEnvironment environment;
  std::memcpy(args_.data(), launch.args, args_.size());
  shared_.resize(kernel_.static_shared_bytes + launch.shared_bytes);
  const size_t warps = (bx * by * bz + lanes_of_warp - 1) / lanes_of_warp;
  while (warps_.size() < warps) warps_.emplace_back(kernel_, args_.data(), shared_);
  for (uint64_t block = 0; block < uint64_t{gx} * gy * gz; ++block) {
    const Place place{{static_cast<uint32_t>(block % gx), static_cast<uint32_t>(block / gx % gy),
                       static_cast<uint32_t>(block / gx / gy)},
                      {gx, gy, gz},
                      {bx, by, bz}};
    run_block(place, warps);
  }
}

}  // namespace ptx
