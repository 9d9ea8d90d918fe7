// `gradminer keygen`: the rig's key, made if there is none.
#pragma once

#include <filesystem>

namespace agent {

// Prints the public key in hex to stdout, and where the file lies to stderr. change: a new key in the old one's place,
// which pools will learn of by the old one's signature. Throws Failure.
void keygen_command(const std::filesystem::path& data, bool change);

}  // namespace agent
