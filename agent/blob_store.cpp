#include "blob_store.h"

#include <fcntl.h>

#include <algorithm>
#include <vector>

#include "files.h"
#include "system_info.h"

namespace agent {
namespace fs = std::filesystem;
namespace {

uint64_t size_of(const fs::path& file) {
  std::error_code error;
  const uint64_t bytes = fs::file_size(file, error);
  return error ? 0 : bytes;
}

fs::path part_of(fs::path file) { return file += ".part"; }

std::string name_of(const protocol::BlobReference& blob) {
  return "blob " + protocol::to_hex(blob.digest).substr(0, 16) + "…";
}

void touch(const fs::path& file) {
  std::error_code ignored;  // its age only decides what is deleted first
  fs::last_write_time(file, fs::file_time_type::clock::now(), ignored);
}

}  // namespace

BlobStore::BlobStore(fs::path folder, StoreLimits limits) : folder_(std::move(folder)), limits_(limits) {}

fs::path BlobStore::file_of(const protocol::BlobReference& blob) const {
  return folder_ / "blobs" / protocol::to_hex(blob.digest);
}

uint64_t BlobStore::missing_bytes(const protocol::BlobReference& blob) const {
  if (size_of(file_of(blob)) == blob.bytes) return 0;
  const uint64_t held = size_of(part_of(file_of(blob)));
  return blob.bytes - std::min(held, blob.bytes);
}

fs::path BlobStore::fetch(PoolClient& client, const protocol::BlobReference& blob, const Cancel& cancelled) {
  const fs::path file = file_of(blob);
  if (size_of(file) == blob.bytes && fs::exists(file)) {
    touch(file);
    if (verified_.contains(blob.digest)) return file;
    if (protocol::sha256_of_file(file) == blob.digest) {
      verified_.insert(blob.digest);
      return file;
    }
  }
  remove(blob);  // damaged, or of the wrong size
  download(client, blob, cancelled);
  verified_.insert(blob.digest);
  return file;
}

void BlobStore::download(PoolClient& client, const protocol::BlobReference& blob, const Cancel& cancelled) {
  const fs::path file = file_of(blob), part = part_of(file);
  make_folders(file.parent_path());
  make_room(missing_bytes(blob), {part});
  {
    File out(part, O_WRONLY | O_CREAT);
    uint64_t held = size_of(part);
    if (held > blob.bytes) held = 0;
    out.truncate(held);
    if (held < blob.bytes) {
      bool resumed = held > 0;
      client.download(
          blob, held,
          [&](int status, std::span<const uint8_t> bytes) {
            if (resumed && status == 200) {  // the pool sends it from the start
              out.truncate(0);
              held = 0;
            }
            resumed = false;
            if (bytes.size() > blob.bytes - held)
              throw UnitRefused(name_of(blob) + " came with more bytes than it has");
            out.write(bytes);
            held += bytes.size();
          },
          cancelled);
    }
  }
  if (size_of(part) != blob.bytes || protocol::sha256_of_file(part) != blob.digest) {
    const uint64_t got = size_of(part);
    fs::remove(part);
    throw UnitRefused(name_of(blob) + " came damaged (" + std::to_string(got) + " of " + std::to_string(blob.bytes) +
                      " bytes, or another digest)");
  }
  std::error_code error;
  fs::rename(part, file, error);
  if (error) throw disk_failure("rename", part, error.value());
}

void BlobStore::remove(const protocol::BlobReference& blob) {
  verified_.erase(blob.digest);
  std::error_code ignored;  // fetch overwrites what stays
  fs::remove(file_of(blob), ignored);
}

void BlobStore::make_room(uint64_t bytes, const std::set<fs::path>& keep) {
  make_folders(folder_);
  struct Candidate {
    fs::file_time_type used;
    fs::path file;
    uint64_t bytes;
  };
  std::vector<Candidate> candidates;
  uint64_t held = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
    if (!entry.is_regular_file()) continue;
    held += entry.file_size();
    if (!keep.contains(entry.path())) candidates.push_back({entry.last_write_time(), entry.path(), entry.file_size()});
  }
  std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) { return a.used < b.used; });
  auto fits = [&] { return held + bytes <= limits_.bytes && disk_free(folder_) >= bytes + limits_.disk_reserve; };
  for (const Candidate& candidate : candidates) {
    if (fits()) return;
    fs::remove(candidate.file);
    held -= candidate.bytes;
  }
  if (held + bytes > limits_.bytes) {
    throw UnitRefused("needs " + human_bytes(static_cast<double>(bytes)) + " in a cache of " +
                      human_bytes(static_cast<double>(limits_.bytes)));
  }
  if (!fits()) {
    throw Failure(Exit::disk, "the disk of " + folder_.string() +
                                  " is full: " + human_bytes(static_cast<double>(disk_free(folder_))) + " free, " +
                                  human_bytes(static_cast<double>(bytes + limits_.disk_reserve)) +
                                  " needed; free some space, or move the data folder with --data");
  }
}

}  // namespace agent
