// The cards of an open driver.
#pragma once

#include <vector>

#include "cuda_driver/driver.h"
#include "kernels/cuda_cards.h"

namespace kernels::cuda {

// Starts the driver and lists the cards, ordered by bus id. Throws CudaError where the driver does not start; what
// fails for one card, or takes longer than `limit`, is that card's problem.
std::vector<CudaCard> cards(const Driver& driver, std::chrono::milliseconds limit = cuda_timeout);

}  // namespace kernels::cuda
