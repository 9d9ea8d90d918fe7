// Between the device's language (device.h) and the executor: the kernels by name, and the operations at which threads
// wait for each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mma.h"

namespace simt {

// A line of device code.
struct Site {
  const char* file;
  int line;
};

struct Kernel {
  void (*call)(const void* args);
  size_t args_bytes;
  unsigned char *shared_begin, *shared_end;  // the __shared__ variables of the kernel's file
};

// Makes a kernel known to the launcher; called before main().
bool add_kernel(const char* name, Kernel kernel);

template <class Args>
constexpr size_t args_bytes(void (*)(Args)) {
  return sizeof(Args);
}
template <class Args>
const Args& args_of(void (*)(Args), const void* args) {
  return *static_cast<const Args*>(args);
}

#if defined(__x86_64__)
extern const bool has_fma;  // this CPU's instruction
#endif

// The calling thread's place in its warp.
unsigned lane();

// Each returns when all threads of the block, or all lanes of the mask, have called it.
void barrier(Site site);
void warp_barrier(uint32_t mask, Site site);
uint32_t ballot(uint32_t mask, bool predicate, Site site);
uint64_t shuffle(uint32_t mask, uint64_t value, unsigned source, Site site);
void multiply_matrices(Fragments& fragments, Site site);  // by all 32 lanes of the warp
// values: those of all 32 lanes, which call it.
void gather(uint64_t value, uint64_t (&values)[32], Site site);

// A copy to shared memory that the calling thread has begun and not waited for: of 16 bytes, zeros where `from` is
// not inside. A thread that ends without waiting fails.
struct Copy {
  void* to;
  const void* from;
  bool inside;
};
std::vector<Copy>& copies();

}  // namespace simt

// The section of this file's __shared__ variables, the kernels' own from CMakeLists.txt, and the linker's names for its
// ends, which are null where there are no variables.
#if !defined(SIMT_SECTION)
#define SIMT_SECTION simt_shared
#endif
#define SIMT_TEXT_OF(word) #word
#define SIMT_TEXT(word) SIMT_TEXT_OF(word)
#define SIMT_JOINED_OF(a, b) a##b
#define SIMT_JOINED(a, b) SIMT_JOINED_OF(a, b)
#define SIMT_SECTION_BEGIN SIMT_JOINED(__start_, SIMT_SECTION)
#define SIMT_SECTION_END SIMT_JOINED(__stop_, SIMT_SECTION)
extern "C" [[gnu::weak]] unsigned char SIMT_SECTION_BEGIN[], SIMT_SECTION_END[];

// Makes the entry point kernels::cuda::name known by its name.
#define SIMT_KERNEL(name)                                                                              \
  [[maybe_unused]] static const bool simt_registered_##name = simt::add_kernel(                        \
      #name, {[](const void* args) { kernels::cuda::name(simt::args_of(kernels::cuda::name, args)); }, \
              simt::args_bytes(kernels::cuda::name), SIMT_SECTION_BEGIN, SIMT_SECTION_END})
