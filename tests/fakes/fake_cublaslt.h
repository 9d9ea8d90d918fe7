// cuBLASLt without cards, as a shared library for tests, over the driver of the tests (fake_cuda.h), which has to be
// open: products are computed on the host, in the card's memory. It is strict where the real one would go astray or
// take a slow way, and ends the program there: memory of the host or of another card, arrays and strides that are less
// aligned than was promised, a workspace that is too small, an algorithm of other sizes, digits whose terms are not
// neighbours, descriptors that are none. Where the real one answers with a status, it does, too.
//
//   FAKE_CUBLASLT_VERSION  what cublasLtGetVersion says; default 120903
//   FAKE_CUBLASLT_FAIL     "SYMBOL,STATUS,AFTER": once so many of these calls went well, they give that status
//
// They are read by cublasLtGetVersion.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace fakes {

struct FakeCublasLt {
  int handles = 0, descriptors = 0;   // alive now
  size_t algorithms = 0;              // asked for
  bool without_gelu = false;          // it has no algorithm for that
  std::function<void()> instead;      // of computing a product; may be empty
  std::vector<std::string> products;  // "bf16 M x N x K", as our own arrays are called, and what follows
};

// Exported by the library as fake_cublaslt.
using FakeCublasLtFunction = FakeCublasLt& (*)();

}  // namespace fakes
