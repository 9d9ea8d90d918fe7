// An engine under test.
#pragma once

#include <memory>
#include <string>

#include "kernels/ops.h"

namespace kernels::test {

struct Engine {
  std::string name;
  std::unique_ptr<Ops> ops;
};

}  // namespace kernels::test
