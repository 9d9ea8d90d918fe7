// A file of tokens as it is given to `gradpool dataset import`: text, whose bytes are tokens, or uint16 tokens, raw
// (nanoGPT) or with the header of llm.c.
#pragma once

#include <string>

#include "files.h"

namespace pool {

class TokenFile {
 public:
  // Throws Failure(bad_input): not readable, empty, odd size, a header that is not followed by what it promises.
  TokenFile(const std::filesystem::path& path, bool is_text);

  uint64_t size() const { return is_text_ ? bytes_.size() : bytes_.size() / 2; }  // tokens
  void read(uint64_t first, std::span<uint16_t> out) const;                       // first + out.size() <= size()
  const std::string& name() const { return name_; }
  const std::string& format() const { return format_; }  // "text", "uint16" or "uint16, llm.c"

 private:
  bool skip_header();

  std::string name_;
  bool is_text_;
  MappedFile file_;
  std::string format_;
  std::span<const uint8_t> bytes_;  // the tokens
};

}  // namespace pool
