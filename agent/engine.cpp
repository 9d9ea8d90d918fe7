#include "engine.h"

#include <chrono>
#include <system_error>

#include "exit.h"
#include "kernels/cuda_cards.h"
#include "kernels/profile.h"

namespace agent {

std::unique_ptr<kernels::Ops> make_engine(size_t threads) {
  try {
    return kernels::make_cpu_ops(threads, kernels::simd_from_environment());
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::system_error&) {  // no thread: that may pass
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

namespace {

// A square product in the engine's own memory.
class Product {
 public:
  Product(kernels::Ops& ops, size_t n)
      : ops_(ops), n_(n), memory_(static_cast<float*>(ops.allocate(3 * n * n * sizeof(float)))) {
    ops.zero(memory_, 3 * n * n * sizeof(float));
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
  ~Product() { ops_.free(memory_); }

  double operations() const { return 2.0 * static_cast<double>(n_ * n_ * n_); }
  // Returns the seconds that it took.
  double compute() const {
    const auto begin = Clock::now();
    const size_t size = n_ * n_;
    ops_.matmul({.m = n_,
                 .n = n_,
                 .k = n_,
                 .a = memory_,
                 .a_row = n_,
                 .b = memory_ + size,
                 .b_row = n_,
                 .c = memory_ + 2 * size,
                 .ldc = n_});
    float done;
    ops_.read(&done, memory_ + 2 * size, sizeof done);  // a card has only queued it
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  kernels::Ops& ops_;
  const size_t n_;
  float* const memory_;
};

// Large enough to keep a card busy; the first run brings threads, packing buffers and a card's clock to life.
size_t measured_size(kernels::Ops& ops) {
  constexpr size_t on_cpu = 192, largest = 4096;
  constexpr double enough_seconds = 0.01;
  if (ops.in_host_memory()) {
    Product(ops, on_cpu).compute();
    return on_cpu;
  }
  size_t n = 64;
  while (Product(ops, n).compute() < enough_seconds && n < largest) n *= 2;
  return n;
}

}  // namespace

double measure_flops(kernels::Ops& ops) {
  const Product product(ops, measured_size(ops));
  double operations = 0, seconds = 0;
  while (seconds < 0.1) {
    seconds += product.compute();
    operations += product.operations();
  }
  return operations / seconds;
}

std::unique_ptr<kernels::Trainer> make_trainer(const kernels::ModelConfig& config, size_t batch, size_t context,
                                               kernels::Ops& ops, kernels::Trainer::Settings& settings) {
  try {
    return std::make_unique<kernels::Trainer>(config, batch, context, ops, settings);
  } catch (const kernels::CudaOutOfMemory&) {
    if (settings.recompute && settings.micro_batch == 1) throw;
  }
  settings.recompute = true, settings.micro_batch = 1;
  return std::make_unique<kernels::Trainer>(config, batch, context, ops, settings);
}

}  // namespace agent
