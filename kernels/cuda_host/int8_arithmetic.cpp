#include "cuda_host/int8_arithmetic.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

#include "cuda_host/matmul_launch.h"

namespace kernels::cuda {
namespace {

// A product large enough to fill a card.
class Trial {
 public:
  explicit Trial(Launcher& device)
      : device_(device), a_(allocate(rows * terms)), b_(allocate(rows * terms)), c_(allocate(rows * rows * 4)) {
    std::vector<int8_t> digits(rows * terms);
    uint32_t state = 1;
    for (int8_t& digit : digits) {
      state = state * 1664525 + 1013904223;
      digit = static_cast<int8_t>(static_cast<int32_t>(state >> 24) % 255 - 127);
    }
    device_.write(a_.get(), digits.data(), digits.size());
    std::reverse(digits.begin(), digits.end());
    device_.write(b_.get(), digits.data(), digits.size());
  }

  // What comes out of the first launch, during which the driver may load code.
  std::vector<uint32_t> result(Int8Arithmetic arithmetic) {
    launch(arithmetic);
    std::vector<uint32_t> bits(rows * rows);
    device_.read(bits.data(), c_.get(), bits.size() * sizeof(uint32_t));
    return bits;
  }

  // The shortest time of some launches.
  double seconds(Int8Arithmetic arithmetic, const Clock& clock) {
    double least = std::numeric_limits<double>::infinity();
    for (int round = 0; round < 3; ++round) {
      const double start = clock();
      for (int i = 0; i < 4; ++i) launch(arithmetic);
      uint32_t one;
      device_.read(&one, c_.get(), sizeof one);
      least = std::min(least, clock() - start);
    }
    return least;
  }

 private:
  static constexpr size_t rows = 1024, terms = 256;
  using Memory = std::unique_ptr<void, std::function<void(void*)>>;

  Memory allocate(size_t bytes) {
    return {device_.allocate(bytes), [this](void* memory) { device_.free(memory); }};
  }

  void launch(Int8Arithmetic arithmetic) {
    const Int8Matmul product{.m = rows,
                             .n = rows,
                             .k = terms,
                             .a = static_cast<const int8_t*>(a_.get()),
                             .a_row = terms,
                             .b = static_cast<const int8_t*>(b_.get()),
                             .b_row = 1,
                             .b_col = terms,
                             .c = static_cast<float*>(c_.get()),
                             .ldc = rows};
    launch_int8_matmul(product, int8_matmul_tile(rows, rows, arithmetic, device_.multiprocessors()), arithmetic,
                       device_);
  }

  Launcher& device_;
  Memory a_, b_, c_;
};

}  // namespace

const char* name_of(Int8Arithmetic arithmetic) {
  switch (arithmetic) {
    case Int8Arithmetic::fp32:
      return "fp32";
    case Int8Arithmetic::dp4a:
      return "dp4a";
    case Int8Arithmetic::m8n8k16:
      return "m8n8k16";
    case Int8Arithmetic::m16n8k32:
      return "m16n8k32";
  }
  return "";
}

std::vector<Int8Arithmetic> int8_arithmetics(Launcher& device) {
  std::vector<Int8Arithmetic> found;
  for (const Int8Arithmetic arithmetic : all_int8_arithmetics) {
    if (device.has((std::string("int8_matmul_64_tt_") + name_of(arithmetic)).c_str())) found.push_back(arithmetic);
  }
  return found;
}

double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Int8Arithmetic choose_int8_arithmetic(Launcher& device, const Clock& clock) {
  const std::vector<Int8Arithmetic> found = int8_arithmetics(device);
  if (found.empty()) throw std::runtime_error("the device's code has no kernels for int8 products");
  const Int8Arithmetic best = found.back(), other = found.front();
  if (best != Int8Arithmetic::m8n8k16 || other == best) return best;
  Trial trial(device);
  if (trial.result(best) != trial.result(other)) return other;
  return trial.seconds(best, clock) < trial.seconds(other, clock) ? best : other;
}

}  // namespace kernels::cuda
