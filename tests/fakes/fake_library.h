// For tests over the libraries that stand in for NVIDIA's.
#pragma once

#include <dlfcn.h>

#include <functional>
#include <string>

namespace fakes {

// What a library saw. `function` of it, of type Function, gives that; from the first call on the library is also where
// the real one is asked for by its name.
template <class Function>
auto& seen_by(const char* library, const char* function) {
  void* const opened = dlopen(library, RTLD_NOW);
  return reinterpret_cast<Function>(dlsym(opened, function))();
}

// What an Error says that `body` throws; others pass.
template <class Error>
std::string error_of(const std::function<void()>& body) {
  try {
    body();
    return "no error";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace fakes
