#include "cuda_driver/cublaslt_calls.h"

#include <utility>

namespace kernels::cuda {
namespace {

using Operand = LibraryProduct::Operand;

int type_of_terms(LibraryProduct::Type type) {
  switch (type) {
    case LibraryProduct::Type::bf16:
      return lt::bf16;
    case LibraryProduct::Type::fp16:
      return lt::fp16;
    case LibraryProduct::Type::int8:
      break;
  }
  return lt::int8;
}

bool of_digits(const LibraryProduct& product) { return product.type == LibraryProduct::Type::int8; }

uint32_t epilogue_of(const LibraryProduct& product) {
  if (product.gelu_input != nullptr) return lt::gelu_slope_epilogue;
  const uint32_t bias = product.bias != nullptr ? lt::bias_epilogue : 0;
  if (product.before_gelu != nullptr) return lt::gelu_epilogue | bias;
  return bias != 0 ? bias : lt::no_epilogue;
}

uint64_t workspace_of(const LibraryProduct& product) {
  return product.workspace == nullptr ? 0 : library_workspace_bytes;
}

}  // namespace

CublasLtCalls::CublasLtCalls(std::unique_ptr<const CublasLt> library, std::string bus_id)
    : library_(std::move(library)), bus_id_(std::move(bus_id)) {}

// As a deleter.
template <typename T>
auto CublasLtCalls::giving_back_by(const Call<T>& call) {
  return [this, &call](T handle) { failure_.attempt([&] { library_->run(bus_id_, call, handle); }); };
}

void CublasLtCalls::start(DeviceCalls& card) {
  card.synchronise();  // starting it may wait for the card, which has to answer
  lt::Handle handle = nullptr;
  library_->run(bus_id_, library_->cublasLtCreate, &handle);
  handle_ = {handle, giving_back_by(library_->cublasLtDestroy)};
}

void CublasLtCalls::end(DeviceCalls& card) {
  plans_.clear();
  try {
    card.synchronise();
  } catch (const std::exception&) {
    static_cast<void>(handle_.release());
  }
  handle_.reset();
  failure_.rethrow();
}

bool CublasLtCalls::multiply(DeviceCalls& card, const LibraryProduct& product) {
  const Plan& plan = plan_for(card, product);
  if (plan.found) launch(card, product, plan);
  return plan.found;
}

// Sizes that are new may have the library load code, which waits for the card: it has to answer.
const CublasLtCalls::Plan& CublasLtCalls::plan_for(DeviceCalls& card, const LibraryProduct& product) {
  const Sizes sizes{product.type,
                    product.m,
                    product.n,
                    product.k,
                    product.a.stride,
                    product.b.stride,
                    product.ldc,
                    product.a.terms,
                    product.b.terms,
                    product.c_halves,
                    product.bias != nullptr,
                    product.before_gelu != nullptr,
                    product.gelu_input != nullptr,
                    product.workspace != nullptr};
  const auto known = plans_.find(sizes);
  if (known != plans_.end()) return known->second;
  card.synchronise();
  Plan made = plan(product);
  failure_.rethrow();
  return plans_.emplace(sizes, std::move(made)).first->second;
}

CublasLtCalls::Plan CublasLtCalls::plan(const LibraryProduct& product) {
  const int terms = type_of_terms(product.type);
  const int result = of_digits(product) ? lt::int32 : product.c_halves ? terms : lt::fp32;
  lt::Product made = nullptr;
  library_->run(bus_id_, library_->cublasLtMatmulDescCreate, &made,
                of_digits(product) ? lt::compute_int32 : lt::compute_fp32, of_digits(product) ? lt::int32 : lt::fp32);
  Plan plan{.product = {made, giving_back_by(library_->cublasLtMatmulDescDestroy)},
            .a = layout(terms, product.b, product.n, product.k),
            .b = layout(terms, product.a, product.m, product.k),
            .c = layout(result, product.n, product.m, product.ldc)};
  if (product.b.terms) set(plan, lt::transpose_a, lt::transposed);
  if (!product.a.terms) set(plan, lt::transpose_b, lt::transposed);
  set_epilogue(product, plan);
  set_arrays(product, plan);
  propose(product, plan);
  return plan;
}

// What follows the sums; bias and GELU's array have the result's type unless it is said otherwise.
void CublasLtCalls::set_epilogue(const LibraryProduct& product, const Plan& plan) const {
  const uint32_t epilogue = epilogue_of(product);
  if (epilogue == lt::no_epilogue) return;
  set(plan, lt::epilogue, epilogue);
  if (product.before_gelu != nullptr || product.gelu_input != nullptr)
    set(plan, lt::gelu_stride, static_cast<int64_t>(product.ldc));
}

void CublasLtCalls::set_arrays(const LibraryProduct& product, const Plan& plan) const {
  if (product.bias != nullptr) set(plan, lt::bias, product.bias);
  const void* const gelu = product.before_gelu != nullptr ? product.before_gelu : product.gelu_input;
  if (gelu != nullptr) set(plan, lt::gelu_array, gelu);
}

template <typename T>
void CublasLtCalls::set(const Plan& plan, int attribute, T value) const {
  library_->run(bus_id_, library_->cublasLtMatmulDescSetAttribute, plan.product.get(), attribute,
                static_cast<const void*>(&value), sizeof value);
}

CublasLtCalls::Handle<lt::Layout> CublasLtCalls::layout(int type, const Operand& operand, size_t lines, size_t terms) {
  return operand.terms ? layout(type, terms, lines, operand.stride) : layout(type, lines, terms, operand.stride);
}

CublasLtCalls::Handle<lt::Layout> CublasLtCalls::layout(int type, size_t rows, size_t columns, size_t stride) {
  lt::Layout made = nullptr;
  library_->run(bus_id_, library_->cublasLtMatrixLayoutCreate, &made, type, rows, columns,
                static_cast<int64_t>(stride));
  return {made, giving_back_by(library_->cublasLtMatrixLayoutDestroy)};
}

// What does not depend on where arrays lie or on time, so that the same card chooses the same algorithm; parts of sums
// may be added one after the other, not as they come.
CublasLtCalls::Handle<lt::Preference> CublasLtCalls::preference(const LibraryProduct& product) {
  lt::Preference made = nullptr;
  library_->run(bus_id_, library_->cublasLtMatmulPreferenceCreate, &made);
  Handle<lt::Preference> preference(made, giving_back_by(library_->cublasLtMatmulPreferenceDestroy));
  const auto prefer = [&](int attribute, auto value) {
    library_->run(bus_id_, library_->cublasLtMatmulPreferenceSetAttribute, made, attribute,
                  static_cast<const void*>(&value), sizeof value);
  };
  prefer(lt::most_workspace, workspace_of(product));
  prefer(lt::reductions, lt::ordered_reductions);
  for (int matrix = 0; matrix < 4; ++matrix) prefer(lt::least_alignment + matrix, uint32_t{16});
  const uint32_t epilogue = epilogue_of(product);
  if (library_->major_version() == 11 && epilogue != lt::no_epilogue) prefer(lt::epilogues_of_11, epilogue);
  return preference;
}

// The library's first choice.
void CublasLtCalls::propose(const LibraryProduct& product, Plan& plan) {
  const Handle<lt::Preference> wanted = preference(product);
  lt::Proposal proposal{};
  int proposals = 0;
  const Result answer =
      library_->cublasLtMatmulAlgoGetHeuristic(handle_.get(), plan.product.get(), plan.a.get(), plan.b.get(),
                                               plan.c.get(), plan.c.get(), wanted.get(), 1, &proposal, &proposals);
  if (answer != result::success && answer != lt::not_supported)
    throw CublasLt::error(bus_id_, library_->cublasLtMatmulAlgoGetHeuristic.name, answer);
  if (answer != result::success || proposals == 0 || proposal.state != result::success) return;
  uint32_t reduction = 0;
  size_t written = 0;
  library_->run(bus_id_, library_->cublasLtMatmulAlgoConfigGetAttribute,
                static_cast<const lt::Algorithm*>(&proposal.algorithm), lt::reduction, static_cast<void*>(&reduction),
                sizeof reduction, &written);
  plan.algorithm = proposal.algorithm;
  plan.found = (reduction & lt::reduction_in_place) == 0 && proposal.workspace_bytes <= workspace_of(product);
}

void CublasLtCalls::launch(DeviceCalls& card, const LibraryProduct& product, const Plan& plan) {
  // The factors of a·b and of the addend, in the type in which terms are added.
  const float floats[] = {1, product.addend != nullptr ? 1.0f : 0.0f};
  const int32_t integers[] = {1, 0};
  const void *alpha = &floats[0], *beta = &floats[1];
  if (of_digits(product)) alpha = &integers[0], beta = &integers[1];
  set_arrays(product, plan);
  const void* const addend = product.addend != nullptr ? product.addend : product.c;
  card.launch_by([&](Stream queue) {
    library_->run(bus_id_, library_->cublasLtMatmul, handle_.get(), plan.product.get(), alpha, product.b.first,
                  plan.a.get(), product.a.first, plan.b.get(), beta, addend, plan.c.get(), product.c, plan.c.get(),
                  &plan.algorithm, product.workspace, workspace_of(product), queue);
  });
}

}  // namespace kernels::cuda
