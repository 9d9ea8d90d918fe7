#include "kernels/huge_pages.h"

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace kernels {

void advise_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#if defined(__linux__)
  constexpr size_t page = size_t{2} << 20;
  const size_t before = (page - reinterpret_cast<uintptr_t>(memory) % page) % page;
  if (bytes < before + page) return;
  // A kernel built without transparent huge pages refuses; that costs speed alone.
  (void)madvise(static_cast<std::byte*>(memory) + before, (bytes - before) / page * page, MADV_HUGEPAGE);
#endif
}

void resize_in_huge_pages(std::vector<float>& values, size_t count) {
  if (count > values.capacity()) {
    values.reserve(count);
    advise_huge_pages(values.data(), count * sizeof(float));
  }
  values.resize(count);
}

}  // namespace kernels
