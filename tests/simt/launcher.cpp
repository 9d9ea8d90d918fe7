#include "launcher.h"

#include <map>
#include <mutex>
#include <string>

#include "block.h"
#include "registry.h"

namespace simt {
namespace {

std::map<std::string, Kernel>& kernels_by_name() {
  static std::map<std::string, Kernel> all;
  return all;
}

}  // namespace

bool add_kernel(const char* name, Kernel kernel) { return kernels_by_name().emplace(name, kernel).second; }

bool SimtLauncher::has(const char* kernel) { return kernels_by_name().contains(kernel); }

void SimtLauncher::launch(const kernels::cuda::Launch& launch) {
  const auto found = kernels_by_name().find(launch.kernel);
  if (found == kernels_by_name().end())
    throw std::invalid_argument(std::string("launch of ") + launch.kernel + ": no SIMT_KERNEL of this name");
  check_limits(launch, found->second.args_bytes);

  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  run_grid(launch, found->second, order_ == Order::downward);
}

}  // namespace simt
