#include "kernels/huge_pages.h"

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace kernels {

void advise_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t page = uintptr_t{2} << 20;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) / page * page;
  // A kernel built without transparent huge pages refuses; that costs speed alone.
  if (begin < end) (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
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
