#include "protocol/digest.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "openssl.h"
#include "protocol/error.h"

namespace protocol {
namespace {

static_assert(std::endian::native == std::endian::little, "binary layouts are little-endian and copied as they lie");

EVP_MD_CTX* as_context(void* context) { return static_cast<EVP_MD_CTX*>(context); }

// Fetched once: looking the algorithm up costs more than hashing a short leaf.
const EVP_MD* sha256_algorithm() {
  static EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  require(algorithm != nullptr, "SHA-256");
  return algorithm;
}

Digest hash_prefixed(uint8_t prefix, std::span<const uint8_t> first, std::span<const uint8_t> second = {}) {
  Sha256 hash;
  hash.update(std::span(&prefix, 1));
  hash.update(first);
  hash.update(second);
  return hash.finish();
}

Digest leaf_hash(std::span<const uint8_t> data) { return hash_prefixed(0x00, data); }
Digest node_hash(const Digest& left, const Digest& right) { return hash_prefixed(0x01, left, right); }

}  // namespace

std::string to_hex(std::span<const uint8_t> bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (const uint8_t byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

Digest digest_from_hex(std::string_view text, std::string_view what) {
  const auto value = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  Digest digest;
  if (text.size() != 2 * digest.size() || std::ranges::any_of(text, [&](char c) { return value(c) < 0; }))
    throw Error(ErrorCode::bad_member, std::string(what) + ": must be 64 lowercase hex digits");
  for (size_t i = 0; i < digest.size(); ++i)
    digest[i] = static_cast<uint8_t>(value(text[2 * i]) << 4 | value(text[2 * i + 1]));
  return digest;
}

void Sha256::Free::operator()(void* context) const { EVP_MD_CTX_free(as_context(context)); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  require(context_ != nullptr, "SHA-256");
  require(EVP_DigestInit_ex2(as_context(context_.get()), sha256_algorithm(), nullptr) == 1, "SHA-256");
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const uint8_t> bytes) {
  if (!context_) throw std::logic_error("Sha256::update after finish");
  require(EVP_DigestUpdate(as_context(context_.get()), bytes.data(), bytes.size()) == 1, "SHA-256");
}

void Sha256::update(std::string_view text) {
  update(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

Digest Sha256::finish() {
  if (!context_) throw std::logic_error("Sha256::finish called twice");
  Digest digest;
  require(EVP_DigestFinal_ex(as_context(context_.get()), digest.data(), nullptr) == 1, "SHA-256");
  context_.reset();
  return digest;
}

Digest sha256(std::span<const uint8_t> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

Digest sha256(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.finish();
}

Digest sha256_of_file(const std::filesystem::path& file) {
  const auto fail = [&](const char* what) -> std::system_error {
    return {errno, std::generic_category(), std::string(what) + " " + file.string()};
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream(std::fopen(file.c_str(), "rbe"), &std::fclose);
  if (!stream) throw fail("cannot open");
  std::vector<uint8_t> buffer(256 << 10);
  Sha256 hash;
  while (const size_t count = std::fread(buffer.data(), 1, buffer.size(), stream.get()))
    hash.update(std::span(buffer).first(count));
  if (std::ferror(stream.get())) throw fail("cannot read");
  return hash.finish();
}

void MerkleTree::add(std::span<const uint8_t> leaf) { add_hash(leaf_hash(leaf)); }

// Adding leaf number n completes as many subtrees as n has trailing one bits.
void MerkleTree::add_hash(Digest root) {
  for (uint64_t n = leaves_++; n & 1; n >>= 1) {
    root = node_hash(complete_.back(), root);
    complete_.pop_back();
  }
  complete_.push_back(root);
}

Digest MerkleTree::root() {
  if (complete_.empty()) return sha256(std::span<const uint8_t>{});
  while (complete_.size() > 1) {
    const Digest right = complete_.back();
    complete_.pop_back();
    complete_.back() = node_hash(complete_.back(), right);
  }
  return complete_.front();
}

Digest merkle_root(const std::vector<std::span<const uint8_t>>& leaves) {
  MerkleTree tree;
  for (const auto& leaf : leaves) tree.add(leaf);
  return tree.root();
}

Digest merkle_root(std::span<const Digest> digests) {
  MerkleTree tree;
  for (const Digest& digest : digests) tree.add(digest);
  return tree.root();
}

Digest segment_digest(std::span<const float> values) {
  MerkleTree tree;
  while (!values.empty()) {
    const std::span<const float> leaf = values.first(std::min(values.size(), segment_leaf_values));
    tree.add({reinterpret_cast<const uint8_t*>(leaf.data()), leaf.size_bytes()});
    values = values.subspan(leaf.size());
  }
  return tree.root();
}

}  // namespace protocol
