// The operations on a card that memory bounds, and what becomes of a result, for card_operations.h.
#pragma once

#include "bench/card_arrays.h"

namespace kernels::bench {

Operations memory_operations();

}  // namespace kernels::bench
