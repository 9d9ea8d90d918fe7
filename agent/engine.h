// The CPU engine as the agent uses it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace agent {

// The fast engine with `threads` threads (0: one per usable core), on the path that GRADMINER_SIMD names or the
// fastest. Throws Failure(input) for a path that is unknown or does not run here.
std::unique_ptr<kernels::Ops> make_engine(size_t threads);

// The profiles that it computes, as a unit names them: "exact-fp32/1", …
std::vector<std::string> engine_profiles();

// Floating-point operations a second, from about a tenth of a second of work: for estimates, never for results.
double measure_flops(kernels::Ops& ops);

}  // namespace agent
