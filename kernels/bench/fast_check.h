// Whether a card computes `fast` rightly: what golden digests say of the exact profiles.
#pragma once

#include <string>
#include <vector>

#include "kernels/ops.h"

namespace kernels::bench {

struct FastCheck {
  std::string model;
  double distance = 0;   // of a gradient from that in exact-fp32, relative, in the L2 norm
  bool repeats = false;  // the same bits twice
  bool right = false;    // it repeats, and is as near as the rounding of operands lets it be
};

// One gradient of each family, with head sizes that use all kernels. ops computes `fast`.
std::vector<FastCheck> check_fast(Ops& ops);

}  // namespace kernels::bench
