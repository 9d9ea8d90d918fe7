#include "token_file.h"

#include <algorithm>
#include <cstring>

#include "errors.h"

namespace pool {
namespace {

[[noreturn]] void refuse_tokens(const std::string& message) { throw Failure(ExitCode::bad_input, message); }

MappedFile open_tokens(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) refuse_tokens("there is no file " + path.string());
  if (!std::filesystem::is_regular_file(path, error)) refuse_tokens(path.string() + " is not a regular file");
  try {
    return MappedFile(path);
  } catch (const Failure& failure) {
    refuse_tokens(failure.what());
  }
}

}  // namespace

TokenFile::TokenFile(const std::filesystem::path& path, bool is_text)
    : name_(path.string()), is_text_(is_text), file_(open_tokens(path)), format_("text"), bytes_(file_.bytes()) {
  if (bytes_.empty()) refuse_tokens(name_ + " is empty");
  if (is_text_) return;
  format_ = skip_header() ? "uint16, llm.c" : "uint16";
  if (bytes_.size() % 2 != 0) {
    refuse_tokens(name_ + " has an odd number of bytes, so it is no file of uint16 tokens; for text use --text");
  }
}

void TokenFile::read(uint64_t first, std::span<uint16_t> out) const {
  if (is_text_) {
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(first), out.size(), out.begin());
  } else {
    std::memcpy(out.data(), bytes_.data() + 2 * first, out.size_bytes());
  }
}

// llm.c: 256 int32, of which magic, version, token count.
bool TokenFile::skip_header() {
  constexpr size_t header_bytes = 1024;
  int32_t header[3];
  if (bytes_.size() < header_bytes) return false;
  std::memcpy(header, bytes_.data(), sizeof header);
  if (header[0] == 20240801) {
    refuse_tokens(name_ + " holds the uint32 tokens of llm.c's Llama 3 data; only uint16 tokens are supported");
  }
  if (header[0] != 20240520) return false;
  if (header[1] != 1) {
    refuse_tokens(name_ + ": version " + std::to_string(header[1]) + " of llm.c's token files is not supported (1 is)");
  }
  bytes_ = bytes_.subspan(header_bytes);
  if (header[2] < 0 || bytes_.size() != 2 * static_cast<size_t>(header[2])) {
    refuse_tokens(name_ + " is damaged: its header promises " + std::to_string(header[2]) + " tokens, and " +
                  std::to_string(bytes_.size() / 2) + " follow");
  }
  return true;
}

}  // namespace pool
