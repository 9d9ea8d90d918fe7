// The agent's data folder: one gradminer at a time, and the rig's key.
#pragma once

#include <filesystem>
#include <optional>

#include "files.h"
#include "protocol/keys.h"

namespace agent {

// Creates the folder and holds it until destruction. Names that a killed agent had not synced are synced, since the
// pool may soon be told of what they name. Throws Failure(disk) when it is not writable, Failure(input) when another
// gradminer runs there.
class DataFolder {
 public:
  explicit DataFolder(const std::filesystem::path& folder);
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  File lock_;
};

struct RigKeys {
  protocol::PrivateKey current;
  std::optional<protocol::PrivateKey> previous;  // introduces the current one to pools
};

// The rig's key, FOLDER/key.pem: made once, mode 0600; and previous.pem after a change. Throws Failure(input) for a
// damaged or exposed file.
RigKeys load_or_make_keys(const std::filesystem::path& folder);

// Makes a new key; the old one becomes previous.pem. At every moment there is a whole key.pem.
RigKeys change_key(const std::filesystem::path& folder);

}  // namespace agent
