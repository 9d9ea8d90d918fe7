// How much of a vector an access touches. A template over these compiles to plain loads in the body of a loop and to
// masked ones in its tail.
#pragma once

#include <cstddef>

namespace kernels {

constexpr size_t cache_line = 16;  // in floats: whole vectors of every width

struct Whole {};
struct Part {
  size_t count;  // lanes from the first on; fewer than a vector holds
};

}  // namespace kernels
