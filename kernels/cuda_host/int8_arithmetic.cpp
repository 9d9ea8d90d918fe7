#include "cuda_host/int8_arithmetic.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

#include "cuda_host/library_matmul.h"
#include "cuda_host/matmul_launch.h"

namespace kernels::cuda {
namespace {

// One way to multiply digits.
using Multiply = std::function<void(const Int8Matmul&)>;

Multiply by_kernels(Int8Arithmetic arithmetic, Launcher& device) {
  return [arithmetic, &device](const Int8Matmul& op) {
    launch_int8_matmul(op, int8_matmul_tile(op.m, op.n, arithmetic, device.multiprocessors()), arithmetic, device);
  };
}

// A product large enough to fill a card.
class Trial {
 public:
  Trial(Launcher& device, size_t terms)
      : device_(device),
        terms_(terms),
        a_(allocate(rows * terms)),
        b_(allocate(rows * terms)),
        c_(allocate(rows * rows * 4)) {
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
  std::vector<uint32_t> result(const Multiply& multiply) {
    std::vector<uint32_t> bits(rows * rows);
    device_.zero(c_.get(), bits.size() * sizeof(uint32_t));  // nothing is taken for the result before
    multiply(product());
    device_.read(bits.data(), c_.get(), bits.size() * sizeof(uint32_t));
    return bits;
  }

  // The shortest time of some launches.
  double seconds(const Multiply& multiply, const Clock& clock) {
    double least = std::numeric_limits<double>::infinity();
    for (int round = 0; round < 3; ++round) {
      const double start = clock();
      for (int i = 0; i < 4; ++i) multiply(product());
      uint32_t one;
      device_.read(&one, c_.get(), sizeof one);
      least = std::min(least, clock() - start);
    }
    return least;
  }

 private:
  static constexpr size_t rows = 1024;
  using Memory = std::unique_ptr<void, std::function<void(void*)>>;

  Memory allocate(size_t bytes) {
    return {device_.allocate(bytes), [this](void* memory) { device_.free(memory); }};
  }

  Int8Matmul product() const {
    return {.m = rows,
            .n = rows,
            .k = terms_,
            .a = static_cast<const int8_t*>(a_.get()),
            .a_row = terms_,
            .b = static_cast<const int8_t*>(b_.get()),
            .b_row = 1,
            .b_col = terms_,
            .c = static_cast<float*>(c_.get()),
            .ldc = rows};
  }

  Launcher& device_;
  const size_t terms_;
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
  Trial trial(device, 256);
  const Multiply by_best = by_kernels(best, device), by_other = by_kernels(other, device);
  if (trial.result(by_best) != trial.result(by_other)) return other;
  return trial.seconds(by_best, clock) < trial.seconds(by_other, clock) ? best : other;
}

bool library_is_faster(Launcher& device, Int8Arithmetic arithmetic, GemmLibrary& library, const Clock& clock) {
  Trial trial(device, 1024);
  bool declined = false;
  const Multiply by_library = [&](const Int8Matmul& op) {
    declined = declined || !library_int8_matmul(op, library, device);
  };
  const Multiply by_own = by_kernels(arithmetic, device);
  const std::vector<uint32_t> its_result = trial.result(by_library);
  if (declined || its_result != trial.result(by_own)) return false;
  return trial.seconds(by_library, clock) < trial.seconds(by_own, clock) && !declined;
}

}  // namespace kernels::cuda
