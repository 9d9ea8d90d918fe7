// The golden vectors: every file of tests/pool-protocol/golden, made from samples.h by the library itself.
#pragma once

#include <map>
#include <string>

namespace protocol::samples {

std::map<std::string, std::string> golden_files();  // name -> content

}  // namespace protocol::samples
