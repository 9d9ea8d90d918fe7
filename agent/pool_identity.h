// Which pool this is: its pool_id and keys, pinned in the data folder at the first contact with an address.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "protocol/messages.h"

namespace agent {

struct PoolIdentity {
  std::string url;
  protocol::Digest pool_id{};
  std::vector<protocol::PoolKey> keys;  // the last one signs

  // Folder name of everything that belongs to this pool: the first 16 hex digits of pool_id.
  std::string folder_name() const;
  // True when any of the pool's keys signed it: documents outlive keys.
  bool signed_by_pool(const protocol::SignedDocument& document) const;
};

// Checks the chain of keys: the first has the digest pool_id, each later one is signed by the one before. Throws
// Failure(refused).
PoolIdentity identity_of(const std::string& url, const protocol::PoolInfo& info);

// What DATA/pools holds for this address. Throws Failure(disk) where that is damaged.
std::optional<PoolIdentity> pinned_identity(const std::filesystem::path& data, const std::string& url);

// Compares with what DATA/pools holds for this address, and stores it. Throws Failure(refused) when the address has
// become another pool.
void pin_identity(const std::filesystem::path& data, const PoolIdentity& identity);

// All pools that this data folder knows.
std::vector<PoolIdentity> known_pools(const std::filesystem::path& data);

}  // namespace agent
