// Compiled for the baseline of the architecture; see kernel_table.h.
#include "cpu/make_table.h"
#include "cpu/tile_portable.h"
#include "cpu/vector_portable.h"

namespace kernels {

const KernelTable& portable_kernels() {
  static constexpr KernelTable table = make_table<Portable>();
  return table;
}

}  // namespace kernels
