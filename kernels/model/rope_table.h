// The cosines and sines of rotary positions, docs/numerics.md section 2.
#pragma once

#include <cstddef>
#include <span>

namespace kernels {

// cos, sin: (context, frequencies.size()), of the angle float(t) * frequencies[j].
void fill_rope_table(std::span<const float> frequencies, size_t context, float* cos, float* sin);

}  // namespace kernels
