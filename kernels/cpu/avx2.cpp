// Compiled with -mavx2 -mfma; see kernel_table.h.
#include "cpu/make_table.h"
#include "cpu/vector_avx2.h"

namespace kernels {

const KernelTable& avx2_kernels() {
  static constexpr KernelTable table = make_table<Avx2>();
  return table;
}

}  // namespace kernels
