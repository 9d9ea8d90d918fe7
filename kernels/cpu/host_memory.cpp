// What an Ops does that computes in the host's memory, unless it says otherwise.
#include <cstring>
#include <new>
#include <stdexcept>

#include "kernels/huge_pages.h"
#include "kernels/ops.h"

namespace kernels {
namespace {

constexpr std::align_val_t alignment{64};

}  // namespace

void* Ops::allocate(size_t bytes) {
  void* memory = ::operator new(bytes, alignment);
  advise_huge_pages(memory, bytes);
  return memory;
}

void Ops::free(void* memory) noexcept { ::operator delete(memory, alignment); }

void Ops::write(void* memory, const void* host, size_t bytes) { copy(memory, host, bytes); }

void Ops::read(void* host, const void* memory, size_t bytes) { copy(host, memory, bytes); }

void Ops::copy(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

void Ops::zero(void* memory, size_t bytes) { std::memset(memory, 0, bytes); }

void Ops::fast_matmul(const FastMatmul&) { throw std::logic_error(name() + " does not compute fast"); }

void Ops::round_to_halves(const RoundToHalves&) { throw std::logic_error(name() + " does not compute fast"); }

void Ops::leaf_hashes(const float*, size_t, size_t, uint8_t*) {
  throw std::logic_error("leaf hashes are for memory that is not the host's");
}

void Ops::encode(const Encode& op) { kernels::encode(op.codec, {op.x, op.count}, op.scales, op.digits); }

}  // namespace kernels
