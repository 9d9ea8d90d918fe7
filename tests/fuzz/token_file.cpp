// Any bytes as a file of tokens: refused with Failure, or its tokens are the file's bytes, all of them and in their
// order, however they are read.
#include "token_file.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "errors.h"
#include "memory_file.h"

namespace {

std::vector<uint16_t> read_by(const pool::TokenFile& file, size_t step) {
  std::vector<uint16_t> tokens(file.size());
  for (size_t first = 0; first < tokens.size(); first += step) {
    file.read(first, std::span(tokens).subspan(first, std::min(step, tokens.size() - first)));
  }
  return tokens;
}

void check_text(const std::string& name, std::span<const uint8_t> bytes) {
  const pool::TokenFile file(name, true);
  const std::vector<uint16_t> tokens = read_by(file, 7);
  if (file.format() != "text" || !std::equal(tokens.begin(), tokens.end(), bytes.begin(), bytes.end())) std::abort();
}

void check_tokens(const std::string& name, std::span<const uint8_t> bytes) {
  const pool::TokenFile file(name, false);
  if (file.format() != "uint16") {
    int32_t header[3];
    std::memcpy(header, bytes.data(), sizeof header);
    if (header[0] != 20240520 || header[1] != 1 || static_cast<uint64_t>(header[2]) != file.size()) std::abort();
    bytes = bytes.subspan(1024);
  }
  if (2 * file.size() != bytes.size()) std::abort();
  const std::vector<uint16_t> tokens = read_by(file, 7);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] != bytes[2 * i] + 256 * bytes[2 * i + 1]) std::abort();
  }
  if (read_by(file, 100'000) != tokens) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string& name = memory_file(data, size);
  for (const auto check : {check_text, check_tokens}) try {
      check(name, {data, size});
    } catch (const pool::Failure& failure) {
      if (failure.code != pool::ExitCode::bad_input) std::abort();
    }
  return 0;
}
