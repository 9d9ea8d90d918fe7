#include "cuda_driver/card_ops.h"

#include "cuda_driver/code.h"
#include "cuda_host/half_precision.h"

namespace kernels {
namespace cuda {
namespace {

Device::Tell or_nobody(const Device::Tell& told) {
  return told ? told : [](const std::string&) {};
}

// Null where it is not there.
std::unique_ptr<const CublasLt> find_cublaslt(const Driver& driver) {
  try {
    return std::make_unique<const CublasLt>(driver.version);
  } catch (const CudaError&) {
    return nullptr;  // cublaslt_version() says why
  }
}

std::vector<const Code*> codes_of(const CudaCard& card) {
  try {
    return codes_for({card.major, card.minor});
  } catch (const std::runtime_error& error) {
    throw CudaError(card.bus_id + ": " + error.what());
  }
}

}  // namespace

CardLibrary::CardLibrary(const Driver& driver, Device& device, Int8Arithmetic int8, HalfPrecision half,
                         const CardNews& news) {
  const bool tensor_cores = int8 == Int8Arithmetic::m8n8k16 || int8 == Int8Arithmetic::m16n8k32;
  std::unique_ptr<const CublasLt> library = tensor_cores ? find_cublaslt(driver) : nullptr;
  if (!library) return;
  const std::string name = "cuBLASLt " + library->version_text();
  const Device::Tell failure = or_nobody(news.cublaslt_failed), uses = or_nobody(news.cublaslt);
  try {
    products = std::make_unique<CublasLtProducts>(std::move(library), device, failure);
  } catch (const CublasLtError& error) {
    failure(error.what());
    return;
  }
  if (library_is_faster(device, int8, *products)) use.digits = products.get();
  if (half != HalfPrecision::none) use.halves = products.get();
  if (products->failed()) return;
  uses(device.bus_id() + ": " + (use.digits ? name : "own kernels") + " for int8" +
       (use.halves ? ", " + name + " for fast" : ""));
}

OpenCard::OpenCard(const CudaCard& card, std::chrono::milliseconds timeout, const CardNews& news)
    : driver(open_driver(timeout)),
      device(open_device(driver, card, codes_of(card), timeout, news.give_back_failed)),
      int8(choose_int8_arithmetic(device)),
      half(choose_half_precision(device)),
      library(driver, device, int8, half, news) {}

CardOps::CardOps(const CudaCard& card, std::chrono::milliseconds timeout, const CardNews& news)
    : OpenCard(card, timeout, news), CudaOps(OpenCard::device, OpenCard::int8, OpenCard::half, library.use) {}

}  // namespace cuda

std::unique_ptr<Ops> make_cuda_ops(const CudaCard& card, std::chrono::milliseconds timeout, const CardNews& news) {
  return std::make_unique<cuda::CardOps>(card, timeout, news);
}

}  // namespace kernels
