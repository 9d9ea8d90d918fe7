#include "launcher.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>

#include "block.h"
#include "registry.h"

namespace simt {
namespace {

std::map<std::string, Kernel>& kernels_by_name() {
  static std::map<std::string, Kernel> all;
  return all;
}

void check(bool holds, const kernels::cuda::Launch& launch, const std::string& problem) {
  if (!holds) throw std::invalid_argument(std::string("launch of ") + launch.kernel + ": " + problem);
}

// The limits of every device from compute capability 6.0 on; of shared memory, of the largest.
void check_limits(const kernels::cuda::Launch& launch, const Kernel& kernel) {
  const auto [gx, gy, gz] = launch.grid;
  const auto [bx, by, bz] = launch.block;
  check(gx > 0 && gy > 0 && gz > 0 && bx > 0 && by > 0 && bz > 0, launch, "an empty grid or block");
  check(gx <= 0x7fffffff && gy <= 65535 && gz <= 65535, launch, "the grid is too large");
  check(bx <= 1024 && by <= 1024 && bz <= 64 && uint64_t{bx} * by * bz <= maximum_threads, launch,
        "the block is too large");
  check(launch.shared_bytes <= maximum_shared_bytes, launch, "more than 227 KiB of shared memory");
  check(launch.args_bytes == kernel.args_bytes, launch,
        "arguments of " + std::to_string(launch.args_bytes) + " bytes for " + std::to_string(kernel.args_bytes));
  check(launch.args_bytes <= kernels::cuda::maximum_args_bytes, launch, "arguments of more than 4096 bytes");
}

}  // namespace

bool add_kernel(const char* name, Kernel kernel) { return kernels_by_name().emplace(name, kernel).second; }

bool SimtLauncher::has(const char* kernel) { return kernels_by_name().contains(kernel); }

void SimtLauncher::launch(const kernels::cuda::Launch& launch) {
  const auto found = kernels_by_name().find(launch.kernel);
  check(found != kernels_by_name().end(), launch, "no SIMT_KERNEL of this name");
  check_limits(launch, found->second);

  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  run_grid(launch, found->second, order_ == Order::downward);
}

void* SimtLauncher::allocate(size_t bytes) {
  void* device = ::operator new (bytes, std::align_val_t{256});
  std::memset(device, 0xff, bytes);
  return device;
}

void SimtLauncher::free(void* device) noexcept { ::operator delete (device, std::align_val_t{256}); }

void SimtLauncher::read(void* host, const void* device, size_t bytes) { std::memcpy(host, device, bytes); }
void SimtLauncher::write(void* device, const void* host, size_t bytes) { std::memcpy(device, host, bytes); }
void SimtLauncher::copy(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void SimtLauncher::zero(void* device, size_t bytes) { std::memset(device, 0, bytes); }

}  // namespace simt
