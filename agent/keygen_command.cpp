#include "keygen_command.h"

#include <cstdio>

#include "config.h"
#include "data_folder.h"
#include "protocol/digest.h"

namespace agent {

void keygen_command(const std::filesystem::path& data, bool change) {
  const std::filesystem::path folder = data.empty() ? default_data_folder() : data;
  const std::filesystem::path file = folder / "key.pem";
  const bool existed = std::filesystem::exists(file);
  std::optional<DataFolder> held;
  if (change) held.emplace(folder);  // no agent may run with the old key
  const RigKeys keys = change ? change_key(folder) : load_or_make_keys(folder);
  std::printf("%s\n", protocol::to_hex(keys.current.public_key()).c_str());
  std::fprintf(stderr, "%s %s\n", existed && !change ? "the key is" : "made", file.c_str());
}

}  // namespace agent
