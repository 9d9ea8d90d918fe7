// NVIDIA's library for matrix products, opened at run time where it is present. Signatures and numbers as in cublasLt.h
// of versions 11, 12 and 13, which agree but for what a comment says. What they size differently the library makes
// itself.
#pragma once

#include <string>

#include "cuda_driver/driver.h"

namespace kernels::cuda {

namespace lt {

using Handle = struct HandleOfCublasLt*;
using Product = struct ProductOfCublasLt*;        // cublasLtMatmulDesc_t
using Layout = struct LayoutOfCublasLt*;          // cublasLtMatrixLayout_t: of a matrix whose columns are neighbours
using Preference = struct PreferenceOfCublasLt*;  // cublasLtMatmulPreference_t

struct Algorithm {
  uint64_t data[8];
};
// An algorithm that the library proposes: cublasLtMatmulHeuristicResult_t.
struct Proposal {
  Algorithm algorithm;
  size_t workspace_bytes;
  Result state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Proposal) == 96);

constexpr Result not_supported = 15;
constexpr int compute_fp32 = 68, compute_int32 = 72;                     // how terms are multiplied and added
constexpr int fp32 = 0, fp16 = 2, int8 = 3, int32 = 10, bf16 = 14;       // types of elements
constexpr int transpose_a = 3, transpose_b = 4, epilogue = 7, bias = 8;  // attributes of a product
constexpr int32_t transposed = 1;                                        // a value of the first two
constexpr uint32_t no_epilogue = 1, bias_epilogue = 4, gelu_epilogue = 160, gelu_slope_epilogue = 192;  // its values
constexpr int gelu_array = 11, gelu_stride = 12;  // of the last two, more attributes
constexpr size_t first_with_gelu = 111103;  // CUDA 11.8's: PyTorch has met errors in earlier ones and does not use them
constexpr int most_workspace = 1, reductions = 3, least_alignment = 5;  // of a preference: bytes; a mask; a's,
                                                                        // then b's, c's, d's
constexpr int epilogues_of_11 = 11;                                     // likewise; what only version 11 has
constexpr uint32_t reduction_in_place = 1, ordered_reductions = 2 | 4;  // values of the second
constexpr int reduction = 3;                                            // of an algorithm

}  // namespace lt

// A call of the library failed; the card may work.
class CublasLtError : public CudaError {
 public:
  using CudaError::CudaError;
};

// The open library. It stays open until the program ends; its functions may be called by any thread.
class CublasLt {
 private:
  void* library_;

 public:
  // Opens the newest version that a driver for this version of CUDA takes. Throws CudaError: what was not found.
  explicit CublasLt(int driver_version);

  // Calls a function and throws CublasLtError where it fails; `where` names the card.
  template <typename... Arguments, typename... Given>
  void run(const std::string& where, const Call<Arguments...>& call, Given... given) const {
    if (const Result failed = call(given...)) throw error(where, call.name, failed);
  }
  static CublasLtError error(const std::string& where, const char* call, Result result);

  const size_t version;  // 120903 is 12.9.3, 11401 is 11.4.1
  std::string version_text() const;
  size_t major_version() const;

  const Call<lt::Handle*> cublasLtCreate{library_, "cublasLtCreate", owner};
  const Call<lt::Handle> cublasLtDestroy{library_, "cublasLtDestroy", owner};
  // how terms are added, the type of alpha and beta
  const Call<lt::Product*, int, int> cublasLtMatmulDescCreate{library_, "cublasLtMatmulDescCreate", owner};
  const Call<lt::Product> cublasLtMatmulDescDestroy{library_, "cublasLtMatmulDescDestroy", owner};
  const Call<lt::Product, int, const void*, size_t> cublasLtMatmulDescSetAttribute{
      library_, "cublasLtMatmulDescSetAttribute", owner};
  // the type of elements, rows, columns, elements from a column to the next
  const Call<lt::Layout*, int, uint64_t, uint64_t, int64_t> cublasLtMatrixLayoutCreate{
      library_, "cublasLtMatrixLayoutCreate", owner};
  const Call<lt::Layout> cublasLtMatrixLayoutDestroy{library_, "cublasLtMatrixLayoutDestroy", owner};
  const Call<lt::Preference*> cublasLtMatmulPreferenceCreate{library_, "cublasLtMatmulPreferenceCreate", owner};
  const Call<lt::Preference> cublasLtMatmulPreferenceDestroy{library_, "cublasLtMatmulPreferenceDestroy", owner};
  const Call<lt::Preference, int, const void*, size_t> cublasLtMatmulPreferenceSetAttribute{
      library_, "cublasLtMatmulPreferenceSetAttribute", owner};
  // a, b, c, d; how many proposals are wanted, where to, how many there are
  const Call<lt::Handle, lt::Product, lt::Layout, lt::Layout, lt::Layout, lt::Layout, lt::Preference, int,
             lt::Proposal*, int*>
      cublasLtMatmulAlgoGetHeuristic{library_, "cublasLtMatmulAlgoGetHeuristic", owner};
  const Call<const lt::Algorithm*, int, void*, size_t, size_t*> cublasLtMatmulAlgoConfigGetAttribute{
      library_, "cublasLtMatmulAlgoConfigGetAttribute", owner};
  // d = alpha * a * b + beta * c: alpha, a, b, beta, c, d, the algorithm, workspace and its size, the queue
  const Call<lt::Handle, lt::Product, const void*, const void*, lt::Layout, const void*, lt::Layout, const void*,
             const void*, lt::Layout, void*, lt::Layout, const lt::Algorithm*, void*, size_t, Stream>
      cublasLtMatmul{library_, "cublasLtMatmul", owner};

 private:
  static constexpr char owner[] = "cuBLASLt";
};

}  // namespace kernels::cuda
