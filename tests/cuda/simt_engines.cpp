// The engines of cuda_ops_test.
#include "ops_test_util.h"
#include "simt_ops.h"

namespace kernels {

std::vector<test::Engine> test::engines_under_test() {
  std::vector<Engine> engines;
  engines.push_back({"upward", std::make_unique<SimtOps>(simt::Order::upward)});
  engines.push_back({"downward", std::make_unique<SimtOps>(simt::Order::downward, cuda::Int8Arithmetic::m8n8k16)});
  return engines;
}

}  // namespace kernels
