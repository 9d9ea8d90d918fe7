// SHA-256 (OpenSSL) and RFC 6962 Merkle roots, docs/protocol.md section 7.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace protocol {

using Digest = std::array<uint8_t, 32>;

std::string to_hex(std::span<const uint8_t> bytes);
// Throws Error(bad_member) unless text is exactly 64 lowercase hex digits; `what` names it in the message.
Digest digest_from_hex(std::string_view text, std::string_view what);

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(std::span<const uint8_t> bytes);
  void update(std::string_view text);
  Digest finish();  // once

 private:
  struct Free {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Free> context_;
};

Digest sha256(std::span<const uint8_t> bytes);
Digest sha256(std::string_view text);
// Throws std::runtime_error naming the file when it cannot be read.
Digest sha256_of_file(const std::filesystem::path& file);

// RFC 6962 root of leaves that come one by one.
class MerkleTree {
 public:
  void add(std::span<const uint8_t> leaf);
  void add_hash(Digest leaf);  // one that was hashed already: SHA-256 of a zero byte and the leaf
  Digest root();               // once

 private:
  uint64_t leaves_ = 0;
  std::vector<Digest> complete_;  // roots of complete subtrees, largest first
};

// Root over leaf data of any length.
Digest merkle_root(const std::vector<std::span<const uint8_t>>& leaves);
// Root whose leaf data are digests.
Digest merkle_root(std::span<const Digest> digests);
// A segment: root over 64-KiB leaves of the values' little-endian bytes.
constexpr size_t segment_leaf_values = 16'384;
Digest segment_digest(std::span<const float> values);

}  // namespace protocol
