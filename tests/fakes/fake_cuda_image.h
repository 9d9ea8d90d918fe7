// What fake_cuda.cpp reads of code: cubins, and PTX.
#pragma once

#include <elf.h>

#include <algorithm>
#include <cstdint>
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

// What a launch must keep to, where the code says so: that many threads of a block at most, arguments of that size.
struct KernelLimits {
  unsigned threads = 1024;
  size_t argument_bytes = SIZE_MAX;  // unknown
};

template <class T>
T read_at(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.substr(at, sizeof value).data(), sizeof value);
  return value;
}

// Section .nv.info.KERNEL of a cubin: attributes of a form, a number and 16 bits, which of form 4 are the bytes that
// follow.
inline KernelLimits limits_of(const std::string& image, const std::string& kernel) {
  KernelLimits limits;
  if (!is_cubin(image)) return limits;
  constexpr uint8_t followed_by_bytes = 4, most_threads = 0x05, argument_bytes = 0x19;
  const auto header = read_at<Elf64_Ehdr>(image, 0);
  const auto section = [&](size_t number) {
    return read_at<Elf64_Shdr>(image, header.e_shoff + number * header.e_shentsize);
  };
  const size_t names = section(header.e_shstrndx).sh_offset;
  for (size_t number = 0; number < header.e_shnum; ++number) {
    const Elf64_Shdr info = section(number);
    if (image.c_str() + names + info.sh_name != ".nv.info." + kernel) continue;
    for (size_t at = info.sh_offset; at < info.sh_offset + info.sh_size;) {
      const auto form = read_at<uint8_t>(image, at), attribute = read_at<uint8_t>(image, at + 1);
      const auto value = read_at<uint16_t>(image, at + 2);
      at += 4;
      if (attribute == argument_bytes) limits.argument_bytes = value;
      if (attribute == most_threads)
        limits.threads =
            read_at<uint32_t>(image, at) * read_at<uint32_t>(image, at + 4) * read_at<uint32_t>(image, at + 8);
      if (form == followed_by_bytes) at += value;
    }
  }
  return limits;
}

}  // namespace fakes
