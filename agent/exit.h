// Exit codes of gradminer (docs/gradminer.md) and the exception that carries one.
#pragma once

#include <stdexcept>
#include <string>

namespace agent {

enum class Exit : int {
  ok = 0,
  unexpected = 1,
  usage = 2,
  input = 3,        // a configuration or input file is wrong
  unreachable = 4,  // no pool answered at start
  tls = 5,          // certificate, pin, host name
  refused = 6,      // the pool refused for good
  self_test = 7,
  disk = 8,  // full or not writable
  numeric = 9,
};

// An end whose cause is outside the program. what() is the whole message: what is wrong and the way out.
class Failure : public std::runtime_error {
 public:
  Failure(Exit exit_code, const std::string& message) : std::runtime_error(message), code(exit_code) {}
  const Exit code;
};

}  // namespace agent
