// The engines of ptx_ops_test.
#include "ops_test_util.h"
#include "variants.h"

namespace kernels {

std::vector<test::Engine> test::engines_under_test() {
  std::vector<Engine> engines;
  for (const Variant& variant : variants()) engines.push_back({variant.name, std::make_unique<PtxOps>(variant)});
  return engines;
}

}  // namespace kernels
