// Huge pages for large arrays. A product reads its operands along lines that lie kilobytes apart; in pages of 4 KiB
// many of these reads wait for an address translation first, in a virtual machine for two.
#pragma once

#include <cstddef>
#include <vector>

namespace kernels {

// Asks the system to back the whole huge pages inside this memory as such, which neither moves it nor makes it larger.
// To be called before the memory is first written. Advice only: nothing changes where the system has none.
void advise_huge_pages(void* memory, size_t bytes);

// values.resize(count), with the advice given for memory that is new.
void resize_in_huge_pages(std::vector<float>& values, size_t count);

}  // namespace kernels
