// Asking for memory that will be read later, a few lines at a time.
#pragma once

#include <cstddef>

#include "cpu/vector_parts.h"

namespace kernels {

// A row of c, wherever in a line it begins. Inlined, as GCC drops calls of functions that do nothing but prefetch.
template <size_t floats>
inline __attribute__((always_inline)) void ask_for_row(const float* row) {
  for (size_t j = 0; j < floats; j += cache_line) __builtin_prefetch(row + j, 1);
  __builtin_prefetch(row + floats - 1, 1);
}

// `runs` runs of `length` floats, `stride` apart, asked for in `calls` calls, all of them at least 1. More calls, or
// fewer, do no harm.
class Ahead {
 public:
  Ahead() = default;  // nothing
  Ahead(const float* from, size_t runs, size_t length, size_t stride, size_t calls)
      : run_(from), length_(length), stride_(stride), runs_(runs) {
    const size_t lines = runs * ((length + cache_line - 1) / cache_line + 1);  // a run may begin within a line
    lines_a_call_ = (lines + calls - 1) / calls;
  }

  // Inlined, as a call would empty the registers of a tile.
  inline __attribute__((always_inline)) void ask() {
    for (size_t i = 0; i < lines_a_call_ && runs_ > 0; ++i) {
      __builtin_prefetch(run_ + (at_ < length_ ? at_ : length_ - 1), 0, 2);  // into the second-level cache
      at_ += cache_line;
      if (at_ >= length_ + cache_line) at_ = 0, run_ += stride_, --runs_;
    }
  }

 private:
  const float* run_ = nullptr;
  size_t length_ = 0, stride_ = 0, runs_ = 0, lines_a_call_ = 0;
  size_t at_ = 0;  // in the run
};

}  // namespace kernels
