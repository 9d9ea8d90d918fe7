// What an exception out of a conversation with a pool means for the agent.
#pragma once

#include <exception>
#include <optional>
#include <string>

#include "config.h"
#include "exit.h"

namespace agent {

struct PoolTrouble {
  enum class Kind {
    stopping,  // a stop was requested: nothing is wrong
    retry,     // later, with growing pauses
    final      // this pool is of no use until a person does something
  };
  Kind kind = Kind::retry;
  bool busy = false;  // the pool is well and has too much to do: the session stays, the pauses grow
  std::string message;
  Exit exit_code = Exit::unexpected;   // of final
  std::optional<double> wait_seconds;  // where the pool, or the cause, says how long
};

// ever_connected: before the first success a wrong certificate or address is the user's mistake, and final. Rethrows
// what has nothing to do with a pool.
PoolTrouble explain(const std::exception_ptr& error, const PoolConfig& pool, bool ever_connected);

}  // namespace agent
