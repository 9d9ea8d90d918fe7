// NVIDIA's cards: what the driver says of them, and computing on one. The driver is opened at run time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace kernels {

// There is no usable driver, or a call of it failed. what() is one line: the card's bus id, the call, what the driver
// says.
class CudaError : public std::runtime_error {
 public:
  using runtime_error::runtime_error;
};
// The card's memory does not suffice; what was there before is untouched.
class CudaOutOfMemory : public CudaError {
 public:
  using CudaError::CudaError;
};

struct CudaCard {
  int ordinal = 0;     // the driver's number; it may change when the machine starts
  std::string bus_id;  // "0000:01:00.0"; where the driver does not tell, the ordinal
  std::string name;
  int major = 0, minor = 0;  // compute capability
  uint64_t memory_bytes = 0;
  double peak_flops = 0;  // fp32 multiply-adds at the highest clock, by the number of its cores; 0: not known
  std::string no_code;    // why this program has no code for it; else empty, and then
  std::string code;       // what it runs: "sm_86", also with a higher minor, or "compute_75", which the driver compiles
  std::string int8;       // what its int8 products go through: "fp32", "dp4a", "tensor cores", or two of them
  // What `fast` rounds its operands to there: "bf16", "fp16" (if the card has tensor cores: a GTX 16xx has none and
  // says 7.5 as well; a trial tells when it is opened), or "": not there.
  std::string fast;
  std::string problem;  // why the driver told no more of this card; else empty
};

struct CudaCards {
  std::string driver;           // the highest CUDA version that it supports: "12.4"
  std::vector<CudaCard> cards;  // ordered by bus id; may be empty
};

// A card that works finishes in less time what it is given at once: a block of a unit. A call of the driver that
// waits for nothing takes less, too.
constexpr std::chrono::seconds cuda_timeout{60};

// Throws CudaError where there is no driver, it is too old, does not work, or takes longer than `limit` for a call,
// five times that to start.
CudaCards cuda_cards(std::chrono::milliseconds limit = cuda_timeout);

// The version of NVIDIA's cuBLASLt, for cards with tensor cores: "12.9.3". Throws CudaError where none is found that
// the driver takes. Open, it holds some 40 to 110 MB of the host's memory until the program ends (docs/memory.md).
std::string cublaslt_version();

// What a card's Ops says, a line that begins with the bus id: of cuBLASLt, from the thread that computes, once what is
// multiplied by it, and once where it fails and is done without; and what has failed when the card, or its links, were
// given back, from the thread that does that.
struct CardNews {
  std::function<void(const std::string&)> cublaslt = {}, cublaslt_failed = {}, give_back_failed = {};
};

// The operations on a card that cuda_cards() found in this process; in memory of the card, and at most one Ops for each
// card at a time. It throws CudaError where this program has no code for the card, where a call of the driver fails or
// does not return for `timeout`, and where the card finishes nothing for so long; nothing can be computed on that card
// afterwards, but for CudaOutOfMemory. A card that hangs keeps what it held, on it and on the host (8 MB): whoever
// would take it back would wait with it.
std::unique_ptr<Ops> make_cuda_ops(const CudaCard& card, std::chrono::milliseconds timeout = cuda_timeout,
                                   const CardNews& news = {});

// Whether a thread of this process is left behind in a call that did not return. Ends of libraries, which exit() runs,
// could wait for it for ever: such a process ends by std::_Exit().
bool threads_left_behind();

}  // namespace kernels
