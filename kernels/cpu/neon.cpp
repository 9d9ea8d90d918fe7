// Compiled for AArch64, whose baseline has NEON; see kernel_table.h.
#include "cpu/make_table.h"
#include "cpu/vector_neon.h"

namespace kernels {

const KernelTable& neon_kernels() {
  static constexpr KernelTable table = make_table<Neon>();
  return table;
}

}  // namespace kernels
