// The fuzzer's input under a name, for parsers that take files.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

// Holds these bytes until the next call. Never on a disk.
inline const std::string& memory_file(const uint8_t* data, size_t size) {
  static const int file = memfd_create("input", 0);
  static const std::string name = "/proc/self/fd/" + std::to_string(file);
  if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
  return name;
}
