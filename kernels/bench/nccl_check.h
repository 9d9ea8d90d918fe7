// NCCL on one card.
#pragma once

#include <string>

#include "kernels/cuda_cards.h"

namespace kernels::bench {

// "2.21.5" if an array that the card sends itself, the only rank, arrives to the bit. Throws CudaError where NCCL is
// missing, too old or fails, std::runtime_error where other bits arrive.
std::string check_nccl(const CudaCard& card);

}  // namespace kernels::bench
