// The variants of the sources as NVIDIA's two compilers make them.
#pragma once

#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "cuda_host/cuda_ops.h"
#include "launcher.h"

namespace kernels::test {

struct Variant {
  const char* name;
  std::vector<std::filesystem::path> files;
  cuda::Int8Arithmetic int8;
  HalfPrecision half;
};

inline void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

inline std::vector<std::filesystem::path> ptx_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".ptx") files.push_back(entry.path());
  }
  return files;
}

// What 6.0 has of its own are its products of int8; 6.1 and 7.0 have of each what 7.5 has, too.
inline std::vector<Variant> variants() {
  using enum cuda::Int8Arithmetic;
  const std::vector<std::filesystem::path> of_75 = ptx_files(PTX_75), of_80 = ptx_files(PTX_80),
                                           of_90 = ptx_files(PTX_90);
  std::vector<std::filesystem::path> of_60 = {INT8_PRODUCTS_60};
  of_60.insert(of_60.end(), of_75.begin(), of_75.end());
  return {{"compute_60", of_60, fp32, HalfPrecision::none},
          {"compute_61", of_75, dp4a, HalfPrecision::none},
          {"compute_75", of_75, m8n8k16, HalfPrecision::fp16},
          {"compute_80", of_80, m16n8k32, HalfPrecision::bf16},
          {"compute_90", of_90, m16n8k32, HalfPrecision::bf16}};
}

// The operations by the compiled kernels.
class PtxOps : private ptx::PtxLauncher, public cuda::CudaOps {
 public:
  explicit PtxOps(const Variant& variant)
      : PtxLauncher(variant.files), CudaOps(static_cast<PtxLauncher&>(*this), variant.int8, variant.half) {}
};

}  // namespace kernels::test
