// Whether an uploaded blob is a valid result of a unit; not whether it is the right one (checks.h).
#pragma once

#include <optional>

#include "core.h"
#include "files.h"
#include "protocol/blob.h"
#include "units.h"

namespace pool {

// The norm of the decoded result (0 for an evaluation). blob: the whole file, its digest verified.
// Throws Error(bad_result) saying what is wrong: header, size, codec, count, a value or a norm that is not finite, or
// numbers of the submission that contradict it.
float admit_result(const Job& job, const UnitRow& unit, const protocol::Submission& submission,
                   std::span<const uint8_t> blob, kernels::Ops& ops);

// The norm of an encoded vector, by docs/numerics.md section 6, without decoding it whole.
// Throws std::invalid_argument for a value or a norm that is not finite.
float norm_of_payload(const std::vector<kernels::Parameter>& parameters, protocol::CodecId codec, size_t count,
                      std::span<const uint8_t> payload, kernels::Ops& ops);

}  // namespace pool
