#include "protocol/keys.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

#include "openssl.h"
#include "protocol/digest.h"
#include "protocol/error.h"

namespace protocol {
namespace {

constexpr off_t max_key_file_bytes = 16 << 10;

EVP_PKEY* as_pkey(const std::shared_ptr<void>& key) { return static_cast<EVP_PKEY*>(key.get()); }

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// A file descriptor and the file's name for messages.
class File {
 public:
  File(const std::filesystem::path& path, int flags, mode_t mode = 0)
      : path_(path), descriptor_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {
    if (descriptor_ < 0) fail("cannot open");
  }
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return descriptor_; }
  [[noreturn]] void fail(const char* what) const {
    throw std::system_error(errno, std::generic_category(), std::string(what) + " " + path_.string());
  }
  void write_all(std::span<const uint8_t> bytes) const {
    while (!bytes.empty()) {
      const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail("cannot write");
      bytes = bytes.subspan(static_cast<size_t>(count));
    }
  }
  void sync() const {
    if (::fsync(descriptor_) != 0) fail("cannot sync");
  }

 private:
  const std::filesystem::path path_;
  const int descriptor_;
};

// A buffer wiped when it goes.
struct SecretBytes {
  std::vector<uint8_t> bytes;
  ~SecretBytes() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
};

void read_secret_file(const std::filesystem::path& path, SecretBytes& secret) {
  const File file(path, O_RDONLY);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) file.fail("cannot read");
  const std::string name = path.string();
  if (!S_ISREG(status.st_mode)) throw std::runtime_error(name + " is not a regular file");
  if (status.st_mode & (S_IRWXG | S_IRWXO))
    throw std::runtime_error(name + " is a private key that other users may open; run: chmod 600 " + name);
  if (status.st_size == 0) throw std::runtime_error(name + " is empty; delete it, and a new key will be made");
  if (status.st_size > max_key_file_bytes) throw std::runtime_error(name + " is too large for a key");
  secret.bytes.resize(static_cast<size_t>(status.st_size));
  size_t held = 0;
  while (held < secret.bytes.size()) {
    const ssize_t count = ::read(file.get(), secret.bytes.data() + held, secret.bytes.size() - held);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) file.fail("cannot read");
    if (count == 0) throw std::runtime_error(name + " changed while it was read");
    held += static_cast<size_t>(count);
  }
}

// Called for encrypted keys; without it OpenSSL would ask on the terminal.
int no_password(char*, int, int, void*) { return -1; }

Pkey make_public_pkey(const PublicKey& key) {
  Pkey pkey(EVP_PKEY_new_raw_public_key_ex(nullptr, "ED25519", nullptr, key.data(), key.size()));
  require(pkey != nullptr, "Ed25519 public key");
  return pkey;
}

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  require(size > 0, "PEM");
  return {data, static_cast<size_t>(size)};
}

}  // namespace

PublicKey public_key_from_hex(std::string_view text, std::string_view what) { return digest_from_hex(text, what); }

std::string to_pem(const PublicKey& key) {
  const Pkey pkey = make_public_pkey(key);
  const Bio bio(BIO_new(BIO_s_mem()));
  require(bio != nullptr && PEM_write_bio_PUBKEY(bio.get(), pkey.get()) == 1, "PEM of a public key");
  return text_of(bio.get());
}

bool verify(const PublicKey& key, std::span<const uint8_t> message, const Signature& signature) {
  const Pkey pkey = make_public_pkey(key);
  const MdContext context(EVP_MD_CTX_new());
  require(
      context && EVP_DigestVerifyInit_ex(context.get(), nullptr, nullptr, nullptr, nullptr, pkey.get(), nullptr) == 1,
      "Ed25519 verification");
  const int result =
      EVP_DigestVerify(context.get(), signature.data(), signature.size(), message.data(), message.size());
  ERR_clear_error();  // a wrong signature leaves its reason there
  return result == 1;
}

bool verify(const PublicKey& key, std::string_view message, const Signature& signature) {
  return verify(key, bytes_of(message), signature);
}

std::string base64(std::span<const uint8_t> bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // EVP_EncodeBlock ends with a NUL
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(), static_cast<int>(bytes.size()));
  require(size >= 0, "base64");
  text.resize(static_cast<size_t>(size));
  return text;
}

Signature signature_from_base64(std::string_view text, std::string_view what) {
  constexpr size_t text_size = 88, decoded_size = 66;  // 64 bytes, two padding characters
  uint8_t decoded[decoded_size];
  Signature signature;
  if (text.size() == text_size &&
      EVP_DecodeBlock(decoded, reinterpret_cast<const unsigned char*>(text.data()), text_size) == decoded_size) {
    std::copy_n(decoded, signature.size(), signature.begin());
    // Only the one right encoding gives the text again: no white space, no stray bits, padding where it belongs.
    if (base64(signature) == text) return signature;
  }
  ERR_clear_error();
  throw Error(ErrorCode::bad_member, std::string(what) + ": must be the base64 of a 64-byte signature");
}

std::string random_hex16() {
  std::array<uint8_t, 16> bytes;
  require(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1, "random bytes");
  return to_hex(bytes);
}

PrivateKey PrivateKey::generate() {
  EVP_PKEY* key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  require(key != nullptr, "Ed25519 key generation");
  return PrivateKey(std::shared_ptr<void>(Pkey(key)));
}

PrivateKey PrivateKey::load(const std::filesystem::path& file) {
  SecretBytes secret;
  read_secret_file(file, secret);
  const Bio bio(BIO_new_mem_buf(secret.bytes.data(), static_cast<int>(secret.bytes.size())));
  require(bio != nullptr, "key file");
  Pkey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, &no_password, nullptr));
  if (!key) throw_openssl(file.string() + " is not an unencrypted private key in PEM");
  if (!EVP_PKEY_is_a(key.get(), "ED25519"))
    throw std::runtime_error(file.string() + " is a private key, but not Ed25519");
  return PrivateKey(std::shared_ptr<void>(std::move(key)));
}

void PrivateKey::save_new(const std::filesystem::path& file) const {
  const Bio bio(BIO_new(BIO_s_secmem()));
  require(bio && PEM_write_bio_PKCS8PrivateKey(bio.get(), as_pkey(key_), nullptr, nullptr, 0, nullptr, nullptr) == 1,
          "PEM of a private key");
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  require(size > 0, "PEM of a private key");

  const File created(file, O_WRONLY | O_CREAT | O_EXCL, S_IRUSR | S_IWUSR);
  try {
    created.write_all({reinterpret_cast<const uint8_t*>(data), static_cast<size_t>(size)});
    created.sync();
    const auto folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
    File(folder, O_RDONLY | O_DIRECTORY).sync();
  } catch (...) {
    ::unlink(file.c_str());  // nothing is lost: it held a key that nobody has seen
    throw;
  }
}

PublicKey PrivateKey::public_key() const {
  PublicKey key;
  size_t size = key.size();
  require(EVP_PKEY_get_raw_public_key(as_pkey(key_), key.data(), &size) == 1 && size == key.size(), "Ed25519 key");
  return key;
}

Signature PrivateKey::sign(std::span<const uint8_t> message) const {
  const MdContext context(EVP_MD_CTX_new());
  require(
      context && EVP_DigestSignInit_ex(context.get(), nullptr, nullptr, nullptr, nullptr, as_pkey(key_), nullptr) == 1,
      "Ed25519 signing");
  Signature signature;
  size_t size = signature.size();
  require(EVP_DigestSign(context.get(), signature.data(), &size, message.data(), message.size()) == 1 &&
              size == signature.size(),
          "Ed25519 signing");
  return signature;
}

Signature PrivateKey::sign(std::string_view message) const { return sign(bytes_of(message)); }

std::string rotation_message(std::span<const uint8_t> pool_id, const PublicKey& new_key) {
  std::string message = "gradminer key rotation v1";
  message += '\0';
  message.append(pool_id.begin(), pool_id.end());
  message.append(new_key.begin(), new_key.end());
  return message;
}

}  // namespace protocol
