// What NVIDIA's driver says of this machine's cards. The driver is opened at run time; nothing is computed on a card.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kernels {

struct CudaCard {
  int ordinal = 0;     // the driver's number; it may change when the machine starts
  std::string bus_id;  // "0000:01:00.0"; where the driver does not tell, the ordinal
  std::string name;
  int major = 0, minor = 0;  // compute capability
  uint64_t memory_bytes = 0;
  std::string problem;  // why the driver told no more of this card; else empty
};

struct CudaCards {
  std::string driver;           // the highest CUDA version that it supports: "12.4"
  std::vector<CudaCard> cards;  // ordered by bus id; may be empty
};

// Throws std::runtime_error with one line where there is no driver, it is too old, or it does not work.
CudaCards cuda_cards();

}  // namespace kernels
