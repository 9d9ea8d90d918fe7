// Ed25519 keys (OpenSSL). Private keys are PKCS#8 PEM files of mode 0600, public keys 32 raw bytes.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace protocol {

using PublicKey = std::array<uint8_t, 32>;
using Signature = std::array<uint8_t, 64>;

// Throws Error(bad_member) unless text is 64 lowercase hex digits.
PublicKey public_key_from_hex(std::string_view text, std::string_view what);

// SubjectPublicKeyInfo PEM, as `openssl pkey -pubout` writes it.
std::string to_pem(const PublicKey& key);

bool verify(const PublicKey& key, std::span<const uint8_t> message, const Signature& signature);
bool verify(const PublicKey& key, std::string_view message, const Signature& signature);

std::string base64(std::span<const uint8_t> bytes);
// Strict RFC 4648 with padding. Throws Error(bad_member) naming `what`.
Signature signature_from_base64(std::string_view text, std::string_view what);

// 16 random bytes as 32 lowercase hex digits (nonces, lease ids, instances).
std::string random_hex16();

// Copies share the key. Signing is thread-safe.
class PrivateKey {
 public:
  static PrivateKey generate();
  // Throws std::runtime_error naming the file and what is wrong: missing, not PEM, not Ed25519, readable by others.
  static PrivateKey load(const std::filesystem::path& file);
  // Creates the file (mode 0600, synced); throws if it exists.
  void save_new(const std::filesystem::path& file) const;

  PublicKey public_key() const;
  Signature sign(std::span<const uint8_t> message) const;
  Signature sign(std::string_view message) const;

 private:
  explicit PrivateKey(std::shared_ptr<void> key) : key_(std::move(key)) {}
  std::shared_ptr<void> key_;  // EVP_PKEY
};

// The bytes that an old key signs to introduce a new one, docs/protocol.md section 3.
std::string rotation_message(std::span<const uint8_t> pool_id, const PublicKey& new_key);

}  // namespace protocol
