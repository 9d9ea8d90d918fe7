#include "engine.h"

#include <chrono>

#include "exit.h"
#include "kernels/profile.h"

namespace agent {

std::unique_ptr<kernels::Ops> make_engine(size_t threads) {
  try {
    return kernels::make_cpu_ops(threads, kernels::simd_from_environment());
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Failure(Exit::input, error.what());
  }
}

std::vector<std::string> engine_profiles() {
  std::vector<std::string> names;
  for (const kernels::Profile profile : kernels::profiles()) names.push_back(kernels::name_of(profile));
  return names;
}

double measure_flops(kernels::Ops& ops) {
  constexpr size_t n = 192;
  std::vector<float> a(n * n, 0.5f), b(n * n, 0.25f), c(n * n);
  kernels::Matmul matmul{
      .m = n, .n = n, .k = n, .a = a.data(), .a_row = n, .b = b.data(), .b_row = n, .c = c.data(), .ldc = n};
  ops.matmul(matmul);  // threads and packing buffers come to life
  using Clock = std::chrono::steady_clock;
  double operations = 0, seconds = 0;
  for (auto begin = Clock::now(); seconds < 0.1;) {
    ops.matmul(matmul);
    operations += 2.0 * n * n * n;
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  }
  return operations / seconds;
}

}  // namespace agent
