// A card's products by cuBLASLt.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <type_traits>

#include "cuda_driver/cublaslt.h"
#include "cuda_driver/device.h"
#include "cuda_host/gemm_library.h"

namespace kernels::cuda {

class CublasLtProducts final : public GemmLibrary {
 public:
  // Throws CublasLtError where the library does not start on the card. `device` outlives it. on_failure is told, once,
  // where it fails later.
  CublasLtProducts(std::unique_ptr<const CublasLt> library, Device& device,
                   std::function<void(const std::string&)> on_failure);
  ~CublasLtProducts() override;

  bool multiply(const LibraryProduct& product) override;

  bool failed() const override { return failed_; }

 private:
  template <typename T>
  using Handle = std::unique_ptr<std::remove_pointer_t<T>, Result (*)(T)>;
  // Products that differ in nothing else share an algorithm.
  struct Sizes {
    LibraryProduct::Type type;
    size_t m, n, k, a_stride, b_stride, ldc;
    bool a_terms, b_terms, bias, workspace;
    auto operator<=>(const Sizes&) const = default;
  };
  // The library's order of matrices is by columns: its a is b, and its result is c transposed.
  struct Plan {
    Handle<lt::Product> product;
    Handle<lt::Layout> a, b, c;
    lt::Algorithm algorithm{};
    bool found = false;  // whether the library has an algorithm
  };

  const Plan& plan_for(const LibraryProduct& product);
  Plan plan(const LibraryProduct& product) const;
  template <typename T>
  void set(const Plan& plan, int attribute, T value) const;
  Handle<lt::Layout> layout(int type, const LibraryProduct::Operand& operand, size_t lines, size_t terms) const;
  Handle<lt::Layout> layout(int type, size_t rows, size_t columns, size_t stride) const;
  Handle<lt::Preference> preference(const LibraryProduct& product) const;
  void propose(const LibraryProduct& product, Plan& plan) const;
  void launch(const LibraryProduct& product, const Plan& plan);

  Device& device_;
  const std::function<void(const std::string&)> on_failure_;
  const std::unique_ptr<const CublasLt> library_;
  Handle<lt::Handle> handle_;
  std::map<Sizes, Plan> plans_;
  bool failed_ = false;
};

}  // namespace kernels::cuda
