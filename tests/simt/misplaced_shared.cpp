// What shared_section_test.sh must find: a shared variable inside a template.
#include "device.h"

template <int n>
float* misplaced() {
  static __shared__ float words[n];
  return words;
}
template float* misplaced<3>();
