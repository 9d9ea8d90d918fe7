#include "uploads.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>

#include "errors.h"

namespace pool {
namespace {

using protocol::Error;
using protocol::ErrorCode;

constexpr auto stale_after = std::chrono::hours(1);

struct Allowance {
  uint64_t bytes = 0;   // of one upload: the largest result that a unit of the rig may have
  uint64_t wanted = 0;  // units whose result would still be used
};

// Units that others have finished meanwhile count for the size: a late rig uploads, submits and learns that it was
// late. A unit that was leased to it several times counts once, or leasing and releasing would make room without end.
Allowance allowance_of(Db& db, const protocol::PublicKey& key) {
  Statement row =
      query(db,
            "SELECT coalesce(max(u.max_result_bytes), 0), count(DISTINCT CASE WHEN j.state NOT IN ('completed', "
            "'cancelled') AND (u.accepted IS NULL OR l.replay AND EXISTS (SELECT 1 FROM checks c WHERE c.unit = u.id "
            "AND c.state = 'open')) THEN u.id END) FROM leases l JOIN units u ON u.id = l.unit JOIN jobs j ON j.name = "
            "u.job WHERE l.key = ? AND l.state <> 'submitted'",
            key);
  row.executeStep();
  return {number_at(row, 0), number_at(row, 1)};
}

[[noreturn]] void fail(const std::filesystem::path& file) {
  throw Failure(ExitCode::store, "cannot write " + file.string() + ": " + std::generic_category().message(errno));
}

// The upload's file, locked: pieces of one blob come one at a time, whichever process takes them.
class UploadFile {
 public:
  explicit UploadFile(const std::filesystem::path& file) : file_(file) {
    do {
      close_file();
      descriptor_ = open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      if (descriptor_ < 0) fail(file);
      if (flock(descriptor_, LOCK_EX) != 0) {
        close_file();
        fail(file);
      }
    } while (!still_has_its_name());
  }
  ~UploadFile() { close_file(); }
  UploadFile(const UploadFile&) = delete;
  UploadFile& operator=(const UploadFile&) = delete;

  uint64_t size() const {
    struct stat status {};
    if (fstat(descriptor_, &status) != 0) fail(file_);
    return static_cast<uint64_t>(status.st_size);
  }
  void write_at(uint64_t offset, std::span<const uint8_t> bytes) {
    const uint64_t before = offset;
    while (!bytes.empty()) {
      const ssize_t written = pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) {
        const int reason = errno;
        if (ftruncate(descriptor_, static_cast<off_t>(before)) != 0) fail(file_);
        errno = reason;
        fail(file_);
      }
      bytes = bytes.subspan(static_cast<size_t>(written));
      offset += static_cast<uint64_t>(written);
    }
  }

 private:
  // A submission may have claimed the file while this waited for the lock.
  bool still_has_its_name() const {
    struct stat opened {
    }, named{};
    return fstat(descriptor_, &opened) == 0 && stat(file_.c_str(), &named) == 0 && opened.st_ino == named.st_ino;
  }
  void close_file() {
    if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
  }

  std::filesystem::path file_;
  int descriptor_ = -1;
};

// Makes room for one more upload of this key by giving up its oldest.
void limit_files(const Core& core, const protocol::PublicKey& key, uint64_t files) {
  const std::string prefix = protocol::to_hex(key);
  std::vector<std::filesystem::directory_entry> own;
  for (const auto& entry : std::filesystem::directory_iterator(core.store.uploads())) {
    if (entry.path().filename().string().starts_with(prefix)) own.push_back(entry);
  }
  std::error_code gone;
  std::sort(own.begin(), own.end(),
            [&](const auto& a, const auto& b) { return a.last_write_time(gone) < b.last_write_time(gone); });
  for (size_t i = 0; i + files <= own.size(); ++i) std::filesystem::remove(own[i], gone);
}

}  // namespace

uint64_t put_piece(Core& core, const RigIdentity& rig, const protocol::Digest& digest, uint64_t offset,
                   std::span<const uint8_t> piece) {
  if (piece.empty()) throw Error(ErrorCode::bad_request, "a piece has at least one byte");
  const Allowance allowance = core.store.read([&](Db& db) { return allowance_of(db, rig.key); });
  if (offset > allowance.bytes || piece.size() > allowance.bytes - offset) {
    throw Error(ErrorCode::blob_too_large, allowance.bytes == 0 ? "this rig has no lease that a result could be for"
                                                                : "results of this rig's units have at most " +
                                                                      std::to_string(allowance.bytes) + " bytes");
  }
  const std::filesystem::path path = core.store.upload_path(rig.key, digest);
  if (!std::filesystem::exists(path)) limit_files(core, rig.key, allowance.wanted + 2);
  UploadFile file(path);
  const uint64_t held = file.size();
  if (offset > held) {
    throw Error(ErrorCode::blob_offset,
                "the pool holds " + std::to_string(held) + " bytes of this blob; go on from there");
  }
  if (offset + piece.size() <= held) return held;
  file.write_at(held, piece.subspan(held - offset));
  return offset + piece.size();
}

std::optional<StagedFile> claim_upload(Core& core, const protocol::PublicKey& key,
                                       const protocol::BlobReference& blob) {
  const std::filesystem::path path = core.store.upload_path(key, blob.digest);
  if (blob.bytes == 0 || held_bytes(core, key, blob.digest) != blob.bytes) return std::nullopt;
  const UploadFile file(path);
  if (file.size() != blob.bytes) return std::nullopt;
  std::filesystem::path claimed = core.store.temporary_path();
  if (rename(path.c_str(), claimed.c_str()) != 0) fail(claimed);
  return StagedFile(std::move(claimed), blob.digest, blob.bytes);
}

void return_upload(Core& core, const protocol::PublicKey& key, StagedFile& file) {
  if (rename(file.path().c_str(), core.store.upload_path(key, file.digest()).c_str()) == 0) file.release();
}

uint64_t held_bytes(const Core& core, const protocol::PublicKey& key, const protocol::Digest& digest) {
  std::error_code missing;
  const auto size = std::filesystem::file_size(core.store.upload_path(key, digest), missing);
  return missing ? 0 : size;
}

void remove_upload(const Core& core, const protocol::PublicKey& key, const protocol::Digest& digest) {
  std::error_code ignored;  // stale uploads are looked for again
  std::filesystem::remove(core.store.upload_path(key, digest), ignored);
}

void remove_stale_uploads(Core& core) {
  const auto stale = std::filesystem::file_time_type::clock::now() - stale_after;
  for (const auto& entry : std::filesystem::directory_iterator(core.store.uploads())) {
    std::error_code gone;
    if (entry.last_write_time(gone) > stale || gone) continue;
    const std::string name = entry.path().filename().string();
    bool wanted = false;
    try {
      const auto key = protocol::public_key_from_hex(name.substr(0, 64), "upload");
      wanted = core.store.read([&](Db& db) { return allowance_of(db, key).wanted > 0; });
    } catch (const Error&) {  // not a name of ours
    }
    if (!wanted) std::filesystem::remove(entry, gone);
  }
}

}  // namespace pool
