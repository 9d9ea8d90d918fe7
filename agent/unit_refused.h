#pragma once

#include <stdexcept>

namespace agent {

// This rig does not do a unit; the pool gets it back with what() as the reason.
class UnitRefused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace agent
