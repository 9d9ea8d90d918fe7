// What a command of `gradpool` may fail with; the numbers are its exit codes (docs/operating.md).
#pragma once

#include <stdexcept>
#include <string>

namespace pool {

enum class ExitCode {
  ok = 0,
  unexpected = 1,
  usage = 2,
  bad_input = 3,  // configuration or an input file
  store = 4,      // locked, full, unreadable, newer
  not_found = 5,
  address_in_use = 6,
  refused = 7,  // exists already, wrong state
};

// A failure that a person can act on; what() says what, where and what to do.
class Failure : public std::runtime_error {
 public:
  Failure(ExitCode exit_code, const std::string& message) : std::runtime_error(message), code(exit_code) {}
  const ExitCode code;
};

}  // namespace pool
