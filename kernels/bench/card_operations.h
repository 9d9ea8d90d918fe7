// The operations on a card, one at a time, for card_bench.
#pragma once

#include <string>

#include "kernels/ops.h"

namespace kernels::bench {

// Seconds of one call of the operation that a line describes, the mean of so many, on random values:
//
//   copy | read | leaf_hashes | add | gelu_forward | gelu_backward | adamw  COUNT CALLS
//   layer_norm_forward | layer_norm_backward | bias_backward | cross_entropy | quantise_rows  ROWS COLUMNS CALLS
//   matmul_FORM | int8_FORM | fast_FORM  TOKENS IN OUT CALLS      a linear layer; FORM: forward, dx or dw
//   [fast_]attention_forward | [fast_]attention_backward  SEQUENCES CONTEXT HEADS HEAD_SIZE CALLS
//
// Throws std::invalid_argument for another line, and for `fast` where ops does not compute it.
double seconds_of_line(Ops& ops, const std::string& line);

}  // namespace kernels::bench
