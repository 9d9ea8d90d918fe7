#include "cuda_host/library_matmul.h"

#include "cuda/int8_matmul_args.h"
#include "cuda_host/activation_launch.h"
#include "cuda_host/half_precision.h"
#include "cuda_host/shape.h"

namespace kernels::cuda {
namespace {

// The product without GELU, and GELU of the halves that it leaves.
bool library_then_gelu(const FastMatmul& op, LibraryProduct product, HalfPrecision half, GemmLibrary& library,
                       Launcher& device) {
  if (op.ldc != op.n) return false;
  product.before_gelu = nullptr, product.gelu_input = nullptr;
  if (op.before_gelu) product.c = op.before_gelu;
  if (!library.multiply(product)) return false;
  const uint16_t* const halves_of_c = static_cast<const uint16_t*>(op.c.first());
  if (op.before_gelu)
    launch_gelu_forward({.count = op.m * op.n, .x = op.before_gelu, .y = op.c}, half, device);
  else
    launch_gelu_backward({.count = op.m * op.n, .x = op.gelu_input, .dy = halves_of_c, .dx = op.c}, half, device);
  return true;
}

}  // namespace

bool library_fast_matmul(const FastMatmul& op, HalfPrecision half, GemmLibrary& library, Launcher& device) {
  const bool a_terms = op.a_col == 1, b_terms = op.b_row == 1;
  const size_t a_stride = a_terms ? op.a_row : op.a_col, b_stride = b_terms ? op.b_col : op.b_row;
  const bool neighbours = (a_terms || op.a_row == 1) && (b_terms || op.b_col == 1);
  const bool promised = aligned_16(op.a, a_stride) && aligned_16(op.b, b_stride) && aligned_16(op.c, op.ldc) &&
                        aligned_16(op.bias, 0) && aligned_16(op.residual, op.ldc) &&
                        aligned_16(op.before_gelu, op.ldc) && aligned_16(op.gelu_input, op.ldc);
  if (!neighbours || !promised || (op.accumulate && op.residual != nullptr)) return false;
  if (op.m == 0 || op.n == 0 || op.k == 0) return false;
  LibraryProduct product{.type = half == HalfPrecision::bf16 ? LibraryProduct::Type::bf16 : LibraryProduct::Type::fp16,
                         .m = op.m,
                         .n = op.n,
                         .k = op.k,
                         .a = {op.a, a_stride, a_terms},
                         .b = {op.b, b_stride, b_terms},
                         .c = op.c.first(),
                         .ldc = op.ldc,
                         .c_halves = op.c.halves(),
                         .bias = op.bias.first(),
                         .addend = op.accumulate ? op.c.first() : op.residual,
                         .workspace = op.workspace};
  if (op.before_gelu == nullptr && op.gelu_input == nullptr) return library.multiply(product);
  if (library.has_gelu()) {
    product.before_gelu = op.before_gelu, product.gelu_input = op.gelu_input;
    if (library.multiply(product)) return true;
  }
  return library_then_gelu(op, product, half, library, device);
}

// The sums come to lie in c, so it must not hold what is needed later.
bool library_int8_matmul(const Int8Matmul& op, GemmLibrary& library, Launcher& device) {
  const bool terms = op.a_col == 1 && op.b_row == 1 && op.a_low == nullptr;
  const bool c_is_free = !op.accumulate && op.residual != op.c;
  const bool promised = op.n % 4 == 0 && op.k % 4 == 0 && whole_groups(op.a, op.a_row, 16) &&
                        whole_groups(op.b, op.b_col, 16) && aligned(op.c, op.ldc);
  if (!terms || !c_is_free || !promised || op.m == 0 || op.n == 0 || op.k == 0) return false;
  const LibraryProduct product{.type = LibraryProduct::Type::int8,
                               .m = op.m,
                               .n = op.n,
                               .k = op.k,
                               .a = {op.a, op.a_row, true},
                               .b = {op.b, op.b_col, true},
                               .c = op.c,
                               .ldc = op.ldc};
  if (!library.multiply(product)) return false;
  Int8MatmulArgs args{};
  args.c = op.c, args.ldc = op.ldc, args.m = narrow(op.m), args.n = narrow(op.n);
  args.a_scales = op.a_scales, args.b_scales = op.b_scales, args.bias = op.bias, args.residual = op.residual;
  args.c_aligned = aligned(op.bias, 0) && aligned(op.residual, 0) && aligned(op.b_scales, 0);
  launch(device, "int8_matmul_scales", over_matrix(op.m, blocks_for(op.n, 4)), args);
  return true;
}

}  // namespace kernels::cuda
