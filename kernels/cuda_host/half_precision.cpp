#include "cuda_host/half_precision.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda_host/matmul_launch.h"

namespace kernels::cuda {
namespace {

bool has_half(Launcher& device, HalfPrecision half) {
  return device.has((std::string("fast_matmul_64_tt_") + name_of(half)).c_str());
}

// The bits of a whole number below 2,048.
uint16_t small_fp16(uint32_t number) {
  if (number == 0) return 0;
  const auto exponent = static_cast<uint32_t>(std::bit_width(number)) - 1;
  return static_cast<uint16_t>((exponent + 15) << 10 | ((number << (10 - exponent)) & 0x3ff));
}

// A product of whole numbers that fp16 and the sums hold exactly: row i of a is i, column j of b is j % 5.
bool multiplies_fp16(Launcher& device) {
  constexpr size_t rows = 64, terms = 32;
  std::vector<uint16_t> operands(2 * rows * terms);  // a by rows, then b by columns
  std::vector<float> c(rows * rows);
  for (size_t row = 0; row < rows; ++row) {
    std::fill_n(operands.data() + row * terms, terms, small_fp16(static_cast<uint32_t>(row)));
    std::fill_n(operands.data() + (rows + row) * terms, terms, small_fp16(static_cast<uint32_t>(row % 5)));
  }
  const auto free = [&device](void* memory) { device.free(memory); };
  const std::unique_ptr<void, std::function<void(void*)>> memory(
      device.allocate(operands.size() * sizeof(uint16_t) + c.size() * sizeof(float)), free);
  auto* const on_device = static_cast<uint16_t*>(memory.get());
  auto* const result = reinterpret_cast<float*>(on_device + operands.size());
  device.write(on_device, operands.data(), operands.size() * sizeof(uint16_t));
  const FastMatmul product{.m = rows,
                           .n = rows,
                           .k = terms,
                           .a = on_device,
                           .a_row = terms,
                           .b = on_device + rows * terms,
                           .b_row = 1,
                           .b_col = terms,
                           .c = result,
                           .ldc = rows};
  launch_fast_matmul(product, 64, HalfPrecision::fp16, device);
  device.read(c.data(), result, c.size() * sizeof(float));
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < rows; ++j) {
      if (c[i * rows + j] != static_cast<float>(i * (j % 5) * terms)) return false;
    }
  }
  return true;
}

}  // namespace

const char* name_of(HalfPrecision half) {
  switch (half) {
    case HalfPrecision::none:
      break;
    case HalfPrecision::bf16:
      return "bf16";
    case HalfPrecision::fp16:
      return "fp16";
  }
  return "";
}

std::string variant(const char* kernel, ConstFloatsOrHalves array, HalfPrecision half) {
  return array.halves() ? std::string(kernel) + "_" + name_of(half) : kernel;
}

HalfPrecision choose_half_precision(Launcher& device) {
  if (has_half(device, HalfPrecision::bf16)) return HalfPrecision::bf16;
  const bool fp16 = has_half(device, HalfPrecision::fp16) && multiplies_fp16(device);
  return fp16 ? HalfPrecision::fp16 : HalfPrecision::none;
}

}  // namespace kernels::cuda
