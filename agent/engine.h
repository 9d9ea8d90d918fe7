// The engines as the agent uses them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/training.h"

namespace agent {

// The CPU's fast engine with `threads` threads (0: one per usable core), on the path that GRADMINER_SIMD names or the
// fastest. Throws Failure(input) for a path that is unknown or does not run here.
std::unique_ptr<kernels::Ops> make_engine(size_t threads);

// The profiles that every engine computes, as a unit names them: "exact-fp32/1", …
std::vector<std::string> engine_profiles();

// Floating-point operations a second, from about a tenth of a second of work: for estimates, never for results.
double measure_flops(kernels::Ops& ops);

// A trainer as planned. Where a card has less memory than it said, `settings` become those of the leanest plan. Throws
// kernels::CudaOutOfMemory where that does not fit either, and what Trainer throws.
std::unique_ptr<kernels::Trainer> make_trainer(const kernels::ModelConfig& config, size_t batch, size_t context,
                                               kernels::Ops& ops, kernels::Trainer::Settings& settings);

}  // namespace agent
