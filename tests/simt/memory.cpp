// A SimtLauncher's device memory is the host's.
#include <cstring>
#include <new>

#include "launcher.h"

namespace simt {

void* SimtLauncher::allocate(size_t bytes) {
  void* device = ::operator new (bytes, std::align_val_t{256});
  std::memset(device, 0xff, bytes);
  return device;
}

void SimtLauncher::free(void* device) noexcept { ::operator delete (device, std::align_val_t{256}); }

void SimtLauncher::read(void* host, const void* device, size_t bytes) { std::memcpy(host, device, bytes); }
void SimtLauncher::write(void* device, const void* host, size_t bytes) { std::memcpy(device, host, bytes); }
void SimtLauncher::copy(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void SimtLauncher::zero(void* device, size_t bytes) { std::memset(device, 0, bytes); }

}  // namespace simt
