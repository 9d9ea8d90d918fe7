#include "protocol/keys.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "protocol/digest.h"
#include "refusal.h"
#include "samples.h"

namespace protocol {
namespace {

namespace fs = std::filesystem;

class KeyFile : public ::testing::Test {
 protected:
  KeyFile() {
    folder_ = ::testing::TempDir() + "protocol_keys_XXXXXX";
    if (!::mkdtemp(folder_.data())) throw std::runtime_error("mkdtemp " + folder_);
    file_ = fs::path(folder_) / "rig.key";
  }
  ~KeyFile() override { fs::remove_all(folder_); }

  void write(const std::string& content, fs::perms mode = fs::perms::owner_read | fs::perms::owner_write) {
    std::ofstream(file_, std::ios::binary) << content;
    fs::permissions(file_, mode);
  }
  // PEM of another kind of key, as `openssl genpkey` writes it.
  void write_pem(EVP_PKEY* key, const EVP_CIPHER* cipher = nullptr) {
    ASSERT_NE(key, nullptr);
    std::FILE* stream = std::fopen(file_.c_str(), "wb");
    ASSERT_NE(stream, nullptr);
    const char password[] = "secret";
    EXPECT_EQ(
        PEM_write_PKCS8PrivateKey(stream, key, cipher, cipher ? password : nullptr, cipher ? 6 : 0, nullptr, nullptr),
        1);
    std::fclose(stream);
    EVP_PKEY_free(key);
    fs::permissions(file_, fs::perms::owner_read | fs::perms::owner_write);
  }
  void expect_load_failure(const std::string& part) {
    try {
      PrivateKey::load(file_);
      ADD_FAILURE() << "loaded";
    } catch (const std::runtime_error& error) {
      EXPECT_NE(std::string(error.what()).find(file_.string()), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

  std::string folder_;
  fs::path file_;
};

TEST_F(KeyFile, RoundTrip) {
  const PrivateKey key = PrivateKey::generate();
  key.save_new(file_);
  struct stat status {};
  ASSERT_EQ(::stat(file_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_EQ(PrivateKey::load(file_).public_key(), key.public_key());
}

TEST_F(KeyFile, IsNeverOverwritten) {
  const PrivateKey key = PrivateKey::generate();
  key.save_new(file_);
  EXPECT_THROW(PrivateKey::generate().save_new(file_), std::runtime_error);
  EXPECT_EQ(PrivateKey::load(file_).public_key(), key.public_key());
}

TEST_F(KeyFile, MissingFolderIsNamed) {
  file_ = fs::path(folder_) / "nowhere" / "rig.key";
  EXPECT_THROW(PrivateKey::generate().save_new(file_), std::runtime_error);
  expect_load_failure("cannot open");
}

TEST_F(KeyFile, OthersMustNotRead) {
  PrivateKey::generate().save_new(file_);
  for (const fs::perms bit : {fs::perms::group_read, fs::perms::group_write, fs::perms::others_read}) {
    fs::permissions(file_, fs::perms::owner_read | bit);
    expect_load_failure("chmod 600");
  }
  fs::permissions(file_, fs::perms::owner_read);
  EXPECT_NO_THROW(PrivateKey::load(file_));
}

TEST_F(KeyFile, MustHoldAnEd25519Key) {
  write("");
  expect_load_failure("empty");
  write("-----BEGIN PRIVATE KEY-----\nnot base64\n-----END PRIVATE KEY-----\n");
  expect_load_failure("PEM");
  write(to_pem(PrivateKey::generate().public_key()));
  expect_load_failure("PEM");
  write(std::string(20'000, 'x'));
  expect_load_failure("too large");
  write_pem(EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", size_t{1024}));
  expect_load_failure("not Ed25519");
  write_pem(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"));
  expect_load_failure("not Ed25519");
  write_pem(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED448"));
  expect_load_failure("not Ed25519");
  write_pem(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"), EVP_aes_128_cbc());  // must not ask for a password
  expect_load_failure("unencrypted");
  fs::remove(file_);
  fs::create_directory(file_);
  expect_load_failure("not a regular file");
}

TEST(Keys, SignaturesAreOfTheMessageAndTheKey) {
  const PrivateKey key = PrivateKey::generate(), other = PrivateKey::generate();
  for (const std::string message : {"", "x", "a longer message"}) {
    Signature signature = key.sign(message);
    EXPECT_TRUE(verify(key.public_key(), message, signature));
    EXPECT_FALSE(verify(key.public_key(), message + "y", signature));
    EXPECT_FALSE(verify(other.public_key(), message, signature));
    signature[63] ^= 1;
    EXPECT_FALSE(verify(key.public_key(), message, signature));
  }
}

TEST(Keys, Rfc8032TestOne) {  // section 7.1, the empty message: another implementation's signature
  const PublicKey key = public_key_from_hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "key");
  const Digest r = digest_from_hex("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155", "R");
  const Digest s = digest_from_hex("5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b", "S");
  Signature signature;
  std::copy(r.begin(), r.end(), signature.begin());
  std::copy(s.begin(), s.end(), signature.begin() + 32);
  EXPECT_TRUE(verify(key, std::string_view(), signature));
}

// S and S + L, L the group's order, satisfy the equation alike; RFC 8032 allows only S < L, so that nobody can make a
// second signature of one message.
TEST(Keys, SignatureWithLargeSIsRefused) {
  const PrivateKey key = samples::test_key(samples::rig_seed);
  Signature signature = key.sign("message");
  const Digest order = digest_from_hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010", "L");
  unsigned carry = 0;
  for (size_t i = 0; i < 32; ++i) {
    carry += signature[32 + i] + unsigned{order[i]};
    signature[32 + i] = static_cast<uint8_t>(carry);
    carry >>= 8;
  }
  EXPECT_FALSE(verify(key.public_key(), "message", signature));
}

TEST(Keys, Rotation) {
  const PrivateKey old_key = PrivateKey::generate(), new_key = PrivateKey::generate();
  const Digest pool = samples::digest_of("pool"), other_pool = samples::digest_of("other pool");
  const std::string message = rotation_message(pool, new_key.public_key());
  EXPECT_EQ(message.size(), 25u + 1 + 32 + 32);
  const Signature signature = old_key.sign(message);
  EXPECT_TRUE(verify(old_key.public_key(), rotation_message(pool, new_key.public_key()), signature));
  EXPECT_FALSE(verify(old_key.public_key(), rotation_message(other_pool, new_key.public_key()), signature));
  EXPECT_FALSE(verify(old_key.public_key(), rotation_message(pool, old_key.public_key()), signature));
}

TEST(Keys, Base64IsStrict) {
  const Signature signature = samples::test_key(samples::rig_seed).sign("x");
  const std::string text = base64(signature);
  EXPECT_EQ(signature_from_base64(text, "signature"), signature);
  const auto with = [&](size_t place, const char* replacement) {
    return std::string(text).replace(place, std::string(replacement).size(), replacement);
  };
  // Character 85 holds four bits that no byte has: they must be zero.
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::string stray(1, alphabet[alphabet.find(text[85]) + 1]);
  for (const std::string& bad :
       {std::string(), text.substr(0, 87), text.substr(0, 86), text + "=", " " + text.substr(1), with(87, "\n"),
        text.substr(0, 87) + " ", with(40, "-"), with(40, "_"), with(40, "="), with(85, stray.c_str()), with(86, "A="),
        "\n" + text.substr(0, 87), text + "\n", text.substr(0, 84), base64(samples::pool_id())})
    expect_refusal([&] { signature_from_base64(bad, "receipt signature"); }, ErrorCode::bad_member, "receipt signature",
                   bad);
}

TEST(Keys, Base64OfAnyLength) {  // RFC 4648 section 10
  const auto encode = [](const std::string& text) {
    return base64(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
  };
  EXPECT_EQ(encode(""), "");
  EXPECT_EQ(encode("f"), "Zg==");
  EXPECT_EQ(encode("fo"), "Zm8=");
  EXPECT_EQ(encode("foobar"), "Zm9vYmFy");
}

TEST(Keys, RandomHexIsFresh) {
  std::set<std::string> drawn;
  for (int i = 0; i < 100; ++i) drawn.insert(random_hex16());
  EXPECT_EQ(drawn.size(), 100u);
  for (const std::string& text : drawn) {
    EXPECT_EQ(text.size(), 32u);
    EXPECT_EQ(text.find_first_not_of("0123456789abcdef"), std::string::npos);
  }
}

}  // namespace
}  // namespace protocol
