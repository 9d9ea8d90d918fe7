#include "pool_identity.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "files.h"
#include "protocol/documents.h"
#include "protocol/json.h"

namespace agent {
namespace {

std::filesystem::path pin_file(const std::filesystem::path& data, const std::string& url) {
  return data / "pools" / (protocol::to_hex(protocol::sha256(url)).substr(0, 16) + ".json");
}

std::string to_text(const PoolIdentity& identity) {
  nlohmann::json keys = nlohmann::json::array();
  for (const protocol::PoolKey& key : identity.keys) {
    nlohmann::json entry{{"key", protocol::to_hex(key.key)}};
    if (key.signature) entry["signature"] = protocol::base64(*key.signature);
    keys.push_back(entry);
  }
  return nlohmann::json{{"url", identity.url}, {"pool_id", protocol::to_hex(identity.pool_id)}, {"public_keys", keys}}
             .dump(1) +
         "\n";
}

PoolIdentity from_file(const std::filesystem::path& file) {
  try {
    const nlohmann::json object = protocol::parse_object(read_text(file));
    PoolIdentity identity;
    identity.url = protocol::string_member(object, "url");
    identity.pool_id = protocol::digest_from_hex(protocol::string_member(object, "pool_id"), "pool_id");
    for (const nlohmann::json& entry : protocol::member(object, "public_keys")) {
      protocol::PoolKey key{protocol::public_key_from_hex(protocol::string_member(entry, "key"), "key"), {}};
      if (entry.contains("signature")) {
        key.signature = protocol::signature_from_base64(protocol::string_member(entry, "signature"), "signature");
      }
      identity.keys.push_back(key);
    }
    return identity;
  } catch (const protocol::Error& error) {
    throw Failure(Exit::disk, file.string() + " is damaged (" + error.what() + "); remove it to enrol anew");
  }
}

}  // namespace

std::string PoolIdentity::folder_name() const { return protocol::to_hex(pool_id).substr(0, 16); }

bool PoolIdentity::signed_by_pool(const protocol::SignedDocument& document) const {
  return std::any_of(keys.rbegin(), keys.rend(),
                     [&](const protocol::PoolKey& key) { return protocol::verify_document(document, key.key); });
}

PoolIdentity identity_of(const std::string& url, const protocol::PoolInfo& info) {
  auto refuse = [&](const std::string& why) { return Failure(Exit::refused, "the pool at " + url + " " + why); };
  if (info.protocol != 1) {
    throw refuse("speaks protocol " + std::to_string(info.protocol) + ", this gradminer speaks 1; update gradminer");
  }
  if (info.public_keys.empty() || protocol::sha256(info.public_keys.front().key) != info.pool_id) {
    throw refuse("shows a first key that does not belong to its pool_id");
  }
  for (size_t i = 1; i < info.public_keys.size(); ++i) {
    const protocol::PoolKey& key = info.public_keys[i];
    const std::string message = protocol::rotation_message(info.pool_id, key.key);
    if (!key.signature || !protocol::verify(info.public_keys[i - 1].key, message, *key.signature)) {
      throw refuse("shows key number " + std::to_string(i + 1) + " without the signature of the key before it");
    }
  }
  return {url, info.pool_id, info.public_keys};
}

std::optional<PoolIdentity> pinned_identity(const std::filesystem::path& data, const std::string& url) {
  const std::filesystem::path file = pin_file(data, url);
  if (!std::filesystem::exists(file)) return std::nullopt;
  return from_file(file);
}

void pin_identity(const std::filesystem::path& data, const PoolIdentity& identity) {
  const std::filesystem::path file = pin_file(data, identity.url);
  if (const std::optional<PoolIdentity> before = pinned_identity(data, identity.url)) {
    if (before->pool_id != identity.pool_id) {
      throw Failure(Exit::refused, "the pool at " + identity.url + " has become another pool (its pool_id was " +
                                       before->folder_name() + "… and is " + identity.folder_name() +
                                       "…). If its operator says that it was set up anew, remove " + file.string());
    }
    if (before->keys.size() == identity.keys.size()) return;
    if (before->keys.size() > identity.keys.size()) {
      throw Failure(Exit::refused, "the pool at " + identity.url + " has gone back to an older key");
    }
  }
  make_folders(file.parent_path());
  write_durably(file, to_text(identity));
}

std::vector<PoolIdentity> known_pools(const std::filesystem::path& data) {
  std::vector<PoolIdentity> pools;
  if (!std::filesystem::is_directory(data / "pools")) return pools;
  for (const auto& entry : std::filesystem::directory_iterator(data / "pools")) {
    if (entry.path().extension() == ".json") pools.push_back(from_file(entry.path()));
  }
  std::sort(pools.begin(), pools.end(), [](const auto& a, const auto& b) { return a.url < b.url; });
  return pools;
}

}  // namespace agent
