#include "cuda_driver/cards.h"

#include <algorithm>

#include "cuda_driver/code.h"

namespace kernels {
namespace cuda {
namespace {

// As kernels/cuda/int8_matmul.cu compiles for it.
const char* int8_of(ComputeCapability code) {
  if (code.major < 7) return code.minor == 0 ? "fp32" : "dp4a";
  if (code.major > 7) return "tensor cores";
  return code.minor < 5 ? "dp4a" : "tensor cores or dp4a";  // a GTX 16xx has none: choose_int8_arithmetic()
}

// As kernels/cuda/fast_matmul.cu compiles for it.
const char* fast_of(ComputeCapability code) {
  if (code.major >= 8) return "bf16";
  return code.major == 7 && code.minor == 5 ? "fp16" : "";
}

// fp32 cores of a multiprocessor: CUDA C++ Programming Guide, arithmetic instructions. 0 of what is newer.
int cores_of(ComputeCapability card) {
  switch (card.major) {
    case 6:
      return card.minor == 0 ? 64 : 128;
    case 7:
      return 64;
    case 8:
      return card.minor == 0 ? 64 : 128;
    case 9:
    case 10:
    case 12:
      return 128;
    default:
      return 0;
  }
}

std::string bus_id_of(const Driver& driver, const CudaCard& card) {
  Ordinal device = 0;
  driver.run(card.bus_id, driver.cuDeviceGet, &device, card.ordinal);
  char text[256] = {};
  driver.run(card.bus_id, driver.cuDeviceGetPCIBusId, text, static_cast<int>(sizeof text - 1), device);
  return text;
}

CudaCard described(const Driver& driver, CudaCard card) {
  Ordinal device = 0;
  driver.run(card.bus_id, driver.cuDeviceGet, &device, card.ordinal);
  char text[256] = {};
  driver.run(card.bus_id, driver.cuDeviceGetName, text, static_cast<int>(sizeof text - 1), device);
  card.name = text;
  driver.run(card.bus_id, driver.cuDeviceGetAttribute, &card.major, attribute::compute_capability_major, device);
  driver.run(card.bus_id, driver.cuDeviceGetAttribute, &card.minor, attribute::compute_capability_minor, device);
  int multiprocessors = 0, kilohertz = 0;
  driver.run(card.bus_id, driver.cuDeviceGetAttribute, &multiprocessors, attribute::multiprocessors, device);
  driver.run(card.bus_id, driver.cuDeviceGetAttribute, &kilohertz, attribute::clock_kilohertz, device);
  card.peak_flops = 2e3 * kilohertz * multiprocessors * cores_of({card.major, card.minor});
  size_t bytes = 0;
  driver.run(card.bus_id, driver.cuDeviceTotalMem, &bytes, device);
  card.memory_bytes = bytes;
  try {
    const Code& code = code_for({card.major, card.minor});
    card.code = code.name;
    card.int8 = int8_of(code.capability);
    card.fast = fast_of(code.capability);
  } catch (const std::runtime_error& error) {
    card.no_code = error.what();
  }
  return card;
}

// How many; starts the driver.
int count_cards(const Driver& driver) {
  const Result started = driver.cuInit(0);
  if (started == result::no_device) return 0;
  if (started != result::success) driver.fail("the CUDA driver does not start", driver.cuInit.name, started);
  int count = 0;
  driver.run("the CUDA driver", driver.cuDeviceGetCount, &count);
  return count;
}

}  // namespace

std::vector<CudaCard> cards(const Driver& driver, std::chrono::milliseconds limit) {
  const int count = in_time("the CUDA driver", start_limits * limit, [driver] { return count_cards(driver); });
  std::vector<CudaCard> found(static_cast<size_t>(count));
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    CudaCard& card = found[static_cast<size_t>(ordinal)];
    card.ordinal = ordinal;
    card.bus_id = "card " + std::to_string(ordinal);
    try {
      card.bus_id = in_time(card.bus_id, limit, [driver, card] { return bus_id_of(driver, card); });
      card = in_time(card.bus_id, limit, [driver, card] { return described(driver, card); });
    } catch (const CudaError& error) {
      card.problem = error.what();
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const CudaCard& a, const CudaCard& b) { return a.bus_id < b.bus_id; });
  return found;
}

}  // namespace cuda

CudaCards cuda_cards(std::chrono::milliseconds limit) {
  const cuda::Driver driver = cuda::open_driver(limit);
  return {cuda::version_text(driver.version), cuda::cards(driver, limit)};
}

}  // namespace kernels
