// Makes the driver of the tests run every launch: by tests/ptx or tests/simt, see tests/cuda/CMakeLists.txt.
#include "fake_cuda.h"
#include "launcher.h"

extern "C" fakes::FakeCuda& fake_cuda();

namespace {

void run(const fakes::FakeLaunch& launch) {
  const auto [gx, gy, gz] = launch.grid;
  const auto [bx, by, bz] = launch.block;
  simt::SimtLauncher().launch({.kernel = launch.kernel.c_str(),
                               .grid = {gx, gy, gz},
                               .block = {bx, by, bz},
                               .shared_bytes = launch.shared_bytes,
                               .args = launch.args.data(),
                               .args_bytes = launch.args.size()});
}

[[maybe_unused]] const bool set = (fake_cuda().run = run, true);

}  // namespace
