// The operations on a card, one at a time, for card_bench.
#pragma once

#include <functional>
#include <string>

#include "kernels/ops.h"

namespace kernels::bench {

// Seconds of one call of the operation that a line describes, the mean of so many, on random values; wait() returns
// once ops has done all that it was given:
//
//   copy | read | leaf_hashes | encode_int4 | encode_int8  COUNT CALLS
//   add | subtract | scale | sums_of_squares | first_non_finite  COUNT CALLS
//   gelu_forward | gelu_backward | adamw  COUNT CALLS
//   layer_norm_forward | layer_norm_backward | rms_norm_forward | rms_norm_backward  ROWS CHANNELS CALLS
//   swiglu_forward | swiglu_backward  ROWS INNER CALLS
//   bias_backward | cross_entropy | quantise_rows | quantise_rows_two_digits | quantise_columns  ROWS COLUMNS CALLS
//   embedding_forward | embedding_backward  TOKENS CONTEXT VOCABULARY CHANNELS CALLS
//   rope_forward | rope_backward  TOKENS CONTEXT HEADS KV_HEADS HEAD_SIZE CALLS
//   matmul_FORM | int8_FORM | fast_FORM  TOKENS IN OUT CALLS      a linear layer; FORM: forward, dx or dw
//   [fast_]attention_forward | [fast_]attention_backward  SEQUENCES CONTEXT HEADS HEAD_SIZE CALLS
//
// Throws std::invalid_argument for another line, and for `fast` where ops does not compute it.
double seconds_of_line(Ops& ops, const std::function<void()>& wait, const std::string& line);

}  // namespace kernels::bench
