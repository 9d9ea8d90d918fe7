// The integer types of kernel arguments, which host and device share: NVRTC has no <cstdint> and no <cstddef>. Both
// sides compile the structs, and assert the size of each and where its last member lies.
#pragma once

#if defined(__CUDACC_RTC__)

#define offsetof(type, member) __INTADDR__(&(((type*)0)->member))

namespace kernels::cuda {
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
}  // namespace kernels::cuda

#else

#include <cstddef>
#include <cstdint>

namespace kernels::cuda {
using std::int16_t;
using std::int32_t;
using std::int64_t;
using std::int8_t;
using std::uint16_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;
}  // namespace kernels::cuda

#endif
