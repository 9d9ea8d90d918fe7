// The elementary functions of the instruction sets that need compiler flags of their own, for math_test.cpp.
#pragma once

#include <cstddef>

#include "cpu/elementary.h"

namespace kernels {

struct MathPath {
  const char* name;
  size_t width;  // exp and tanh work on arrays of this many, in place
  void (*exp)(float*);
  void (*tanh)(float*);
  float (*log)(float);
};

template <class V>
MathPath math_path_of() {
  return {V::name, V::width, [](float* x) { exp(V::load(x)).store(x); }, [](float* x) { tanh(V::load(x)).store(x); },
          log<V>};
}

MathPath math_avx2();
MathPath math_avx512();

}  // namespace kernels
