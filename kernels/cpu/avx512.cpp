// Compiled with -mavx512f and its companions; see kernel_table.h.
#include "cpu/int8_vnni.h"
#include "cpu/make_table.h"
#include "cpu/vector_avx512.h"

namespace kernels {
namespace {

constexpr KernelTable for_amd(KernelTable table) {
  table.matmul = [](const Matmul& share, float* buffer) { Gemm<Avx512, Tuning::amd>(share, buffer).run(); };
  return table;
}

constexpr KernelTable avx512_intel = make_table<Avx512>();
constexpr KernelTable avx512_amd = for_amd(avx512_intel);
constexpr KernelTable vnni_intel = make_table<Avx512, VnniDot>("avx512vnni");
constexpr KernelTable vnni_amd = for_amd(vnni_intel);

}  // namespace

const KernelTable& avx512_kernels(Tuning tuning) { return tuning == Tuning::intel ? avx512_intel : avx512_amd; }

const KernelTable& avx512vnni_kernels(Tuning tuning) { return tuning == Tuning::intel ? vnni_intel : vnni_amd; }

}  // namespace kernels
