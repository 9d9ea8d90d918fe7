// Compiled with -mavx512f and its companions; see kernel_table.h.
#include "cpu/int8_vnni.h"
#include "cpu/make_table.h"
#include "cpu/vector_avx512.h"

namespace kernels {

const KernelTable& avx512_kernels() {
  static constexpr KernelTable table = make_table<Avx512>();
  return table;
}

const KernelTable& avx512vnni_kernels() {
  static constexpr KernelTable table = make_table<Avx512, VnniDot>("avx512vnni");
  return table;
}

}  // namespace kernels
