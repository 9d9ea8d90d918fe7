// The header block of a request: Beast's parser and the checks that it lacks.
#pragma once

#include <cstdint>
#include <string_view>

#include "http_message.h"

namespace pool {

struct Head {
  HttpRequest request;
  uint64_t body_bytes = 0;
  bool keep_alive = true, wants_continue = false;
};

// text: from the request line to the empty line. Throws Error(bad_request) for everything that this server does not
// speak.
Head parse_head(std::string_view text);

// What Beast's parser would let through: any line that does not end in CRLF, folded lines, control characters.
// Returns what is wrong, or nullptr. `head` ends with the empty line.
const char* flaw_of_head(std::string_view head);

}  // namespace pool
