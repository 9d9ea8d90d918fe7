#include "cuda_driver/cublaslt_products.h"

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

uint64_t workspace_of(const LibraryProduct& product) {
  return product.workspace == nullptr ? 0 : library_workspace_bytes;
}

std::string text(const LibraryProduct& product) {
  return std::to_string(product.m) + " x " + std::to_string(product.n) + " x " + std::to_string(product.k);
}

}  // namespace

CublasLtProducts::CublasLtProducts(std::unique_ptr<const CublasLt> library, Device& device,
                                   std::function<void(const std::string&)> on_failure)
    : device_(device),
      on_failure_(std::move(on_failure)),
      library_(std::move(library)),
      handle_(nullptr, library_->cublasLtDestroy.function) {
  device_.synchronise();  // starting it may wait for the card, which has to answer
  device_.launch_by([this](Stream) {
    lt::Handle handle = nullptr;
    library_->run(device_.bus_id(), library_->cublasLtCreate, &handle);
    handle_.reset(handle);
  });
}

// Giving back may wait for the card; one that does not answer keeps what it has.
CublasLtProducts::~CublasLtProducts() {
  try {
    device_.synchronise();
  } catch (const std::exception&) {
    static_cast<void>(handle_.release());
  }
}

bool CublasLtProducts::multiply(const LibraryProduct& product) {
  if (failed_) return false;
  try {
    const Plan& plan = plan_for(product);
    if (plan.found) launch(product, plan);
    return plan.found;
  } catch (const CublasLtError& error) {
    failed_ = true;
    on_failure_(std::string(error.what()) + ", of " + text(product));
    return false;
  }
}

// Sizes that are new may have the library load code, which waits for the card: it has to answer.
const CublasLtProducts::Plan& CublasLtProducts::plan_for(const LibraryProduct& product) {
  const Sizes sizes{product.type,
                    product.m,
                    product.n,
                    product.k,
                    product.a.stride,
                    product.b.stride,
                    product.ldc,
                    product.a.terms,
                    product.b.terms,
                    product.bias != nullptr,
                    product.workspace != nullptr};
  const auto known = plans_.find(sizes);
  if (known != plans_.end()) return known->second;
  device_.synchronise();
  return plans_.emplace(sizes, plan(product)).first->second;
}

CublasLtProducts::Plan CublasLtProducts::plan(const LibraryProduct& product) const {
  const int terms = type_of_terms(product.type);
  lt::Product made = nullptr;
  library_->run(device_.bus_id(), library_->cublasLtMatmulDescCreate, &made,
                of_digits(product) ? lt::compute_int32 : lt::compute_fp32, of_digits(product) ? lt::int32 : lt::fp32);
  Plan plan{.product = {made, library_->cublasLtMatmulDescDestroy.function},
            .a = layout(terms, product.b, product.n, product.k),
            .b = layout(terms, product.a, product.m, product.k),
            .c = layout(of_digits(product) ? lt::int32 : lt::fp32, product.n, product.m, product.ldc)};
  if (product.b.terms) set(plan, lt::transpose_a, lt::transposed);
  if (!product.a.terms) set(plan, lt::transpose_b, lt::transposed);
  if (product.bias != nullptr) {
    set(plan, lt::epilogue, lt::bias_epilogue);
    set(plan, lt::bias, product.bias);
  }
  propose(product, plan);
  return plan;
}

template <typename T>
void CublasLtProducts::set(const Plan& plan, int attribute, T value) const {
  library_->run(device_.bus_id(), library_->cublasLtMatmulDescSetAttribute, plan.product.get(), attribute,
                static_cast<const void*>(&value), sizeof value);
}

CublasLtProducts::Handle<lt::Layout> CublasLtProducts::layout(int type, const Operand& operand, size_t lines,
                                                              size_t terms) const {
  return operand.terms ? layout(type, terms, lines, operand.stride) : layout(type, lines, terms, operand.stride);
}

CublasLtProducts::Handle<lt::Layout> CublasLtProducts::layout(int type, size_t rows, size_t columns,
                                                              size_t stride) const {
  lt::Layout made = nullptr;
  library_->run(device_.bus_id(), library_->cublasLtMatrixLayoutCreate, &made, type, rows, columns,
                static_cast<int64_t>(stride));
  return {made, library_->cublasLtMatrixLayoutDestroy.function};
}

// What does not depend on where arrays lie or on time, so that the same card chooses the same algorithm; parts of sums
// may be added one after the other, not as they come.
CublasLtProducts::Handle<lt::Preference> CublasLtProducts::preference(const LibraryProduct& product) const {
  lt::Preference made = nullptr;
  library_->run(device_.bus_id(), library_->cublasLtMatmulPreferenceCreate, &made);
  Handle<lt::Preference> preference(made, library_->cublasLtMatmulPreferenceDestroy.function);
  const auto prefer = [&](int attribute, auto value) {
    library_->run(device_.bus_id(), library_->cublasLtMatmulPreferenceSetAttribute, made, attribute,
                  static_cast<const void*>(&value), sizeof value);
  };
  prefer(lt::most_workspace, workspace_of(product));
  prefer(lt::reductions, lt::ordered_reductions);
  for (int matrix = 0; matrix < 4; ++matrix) prefer(lt::least_alignment + matrix, uint32_t{16});
  if (library_->major_version() == 11 && product.bias != nullptr) prefer(lt::epilogues_of_11, lt::bias_epilogue);
  return preference;
}

// The library's first choice.
void CublasLtProducts::propose(const LibraryProduct& product, Plan& plan) const {
  const Handle<lt::Preference> wanted = preference(product);
  lt::Proposal proposal{};
  int proposals = 0;
  const Result answer = library_->cublasLtMatmulAlgoGetHeuristic.function(
      handle_.get(), plan.product.get(), plan.a.get(), plan.b.get(), plan.c.get(), plan.c.get(), wanted.get(), 1,
      &proposal, &proposals);
  if (answer != result::success && answer != lt::not_supported)
    throw CublasLt::error(device_.bus_id(), library_->cublasLtMatmulAlgoGetHeuristic.name, answer);
  if (answer != result::success || proposals == 0 || proposal.state != result::success) return;
  uint32_t reduction = 0;
  size_t written = 0;
  library_->run(device_.bus_id(), library_->cublasLtMatmulAlgoConfigGetAttribute,
                static_cast<const lt::Algorithm*>(&proposal.algorithm), lt::reduction, static_cast<void*>(&reduction),
                sizeof reduction, &written);
  plan.algorithm = proposal.algorithm;
  plan.found = (reduction & lt::reduction_in_place) == 0 && proposal.workspace_bytes <= workspace_of(product);
}

void CublasLtProducts::launch(const LibraryProduct& product, const Plan& plan) {
  // The factors of a·b and of the addend, in the type in which terms are added.
  const float floats[] = {1, product.addend != nullptr ? 1.0f : 0.0f};
  const int32_t integers[] = {1, 0};
  const void *alpha = &floats[0], *beta = &floats[1];
  if (of_digits(product)) alpha = &integers[0], beta = &integers[1];
  if (product.bias != nullptr) set(plan, lt::bias, product.bias);
  const void* const addend = product.addend != nullptr ? product.addend : product.c;
  device_.launch_by([&](Stream queue) {
    library_->run(device_.bus_id(), library_->cublasLtMatmul, handle_.get(), plan.product.get(), alpha, product.b.first,
                  plan.a.get(), product.a.first, plan.b.get(), beta, addend, plan.c.get(), product.c, plan.c.get(),
                  &plan.algorithm, product.workspace, workspace_of(product), queue);
  });
}

}  // namespace kernels::cuda
