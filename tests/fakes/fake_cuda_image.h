// What fake_cuda.cpp reads of code: cubins, and PTX.
#pragma once

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace fakes {

// The bytes of an image, whose length a caller does not tell.
inline std::string image_bytes(const char* image) {
  if (std::memcmp(image, ELFMAG, SELFMAG) != 0) return image;  // PTX ends with a zero byte
  Elf64_Ehdr header;
  std::memcpy(&header, image, sizeof header);
  return {image, std::max(header.e_shoff + size_t{header.e_shnum} * header.e_shentsize,
                          header.e_phoff + size_t{header.e_phnum} * header.e_phentsize)};
}

// The architecture that a cubin is for: 86, 120, … The field moved with version 8 of NVIDIA's ELF format.
inline unsigned architecture(const std::string& image) {
  Elf64_Ehdr header;
  std::memcpy(&header, image.data(), sizeof header);
  return (header.e_ident[EI_ABIVERSION] >= 8 ? header.e_flags >> 8 : header.e_flags) & 0xff;
}

inline bool is_cubin(const std::string& image) { return image.compare(0, SELFMAG, ELFMAG) == 0; }

inline bool has_kernel(const std::string& image, const std::string& name) {
  const auto has = [&](const std::string& text) { return image.find(text) != std::string::npos; };
  return is_cubin(image) ? has(std::string(1, '\0') + ".text." + name + '\0')
                         : has(".entry " + name + "(") || has(".entry *(");
}

}  // namespace fakes
