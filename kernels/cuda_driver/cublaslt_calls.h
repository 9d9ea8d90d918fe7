// What calls cuBLASLt for one card.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <type_traits>

#include "cuda_driver/cublaslt.h"
#include "cuda_driver/device_calls.h"
#include "cuda_driver/kept_failure.h"
#include "cuda_host/gemm_library.h"

namespace kernels::cuda {

// Used by the thread of the card's Device, in Device::by_library(); whose card it is, is given. Functions throw
// CublasLtError where a call of the library fails.
class CublasLtCalls {
 public:
  CublasLtCalls(std::unique_ptr<const CublasLt> library, std::string bus_id);

  void start(DeviceCalls& card);
  bool has_gelu() const { return library_->version >= lt::first_with_gelu; }
  // As GemmLibrary::multiply().
  bool multiply(DeviceCalls& card, const LibraryProduct& product);
  // Gives all back; what fails is thrown. A card that does not answer keeps what it has: giving it back may wait for
  // the card.
  void end(DeviceCalls& card);

 private:
  template <typename T>
  using Handle = std::unique_ptr<std::remove_pointer_t<T>, std::function<void(T)>>;
  // Products that differ in nothing else share an algorithm.
  struct Sizes {
    LibraryProduct::Type type;
    size_t m, n, k, a_stride, b_stride, ldc;
    bool a_terms, b_terms, c_halves, bias, before_gelu, gelu_input, workspace;
    auto operator<=>(const Sizes&) const = default;
  };
  // The library's order of matrices is by columns: its a is b, and its result is c transposed.
  struct Plan {
    Handle<lt::Product> product;
    Handle<lt::Layout> a, b, c;
    lt::Algorithm algorithm{};
    bool found = false;  // whether the library has an algorithm
  };

  const Plan& plan_for(DeviceCalls& card, const LibraryProduct& product);
  template <typename T>
  auto giving_back_by(const Call<T>& call);
  Plan plan(const LibraryProduct& product);
  void set_epilogue(const LibraryProduct& product, const Plan& plan) const;
  void set_arrays(const LibraryProduct& product, const Plan& plan) const;
  template <typename T>
  void set(const Plan& plan, int attribute, T value) const;
  Handle<lt::Layout> layout(int type, const LibraryProduct::Operand& operand, size_t lines, size_t terms);
  Handle<lt::Layout> layout(int type, size_t rows, size_t columns, size_t stride);
  Handle<lt::Preference> preference(const LibraryProduct& product);
  void propose(const LibraryProduct& product, Plan& plan);
  void launch(DeviceCalls& card, const LibraryProduct& product, const Plan& plan);

  const std::unique_ptr<const CublasLt> library_;
  const std::string bus_id_;
  KeptFailure failure_;  // outlives what gives itself back
  Handle<lt::Handle> handle_;
  std::map<Sizes, Plan> plans_;
};

}  // namespace kernels::cuda
