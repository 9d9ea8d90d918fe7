// Downloaded blobs of one pool as files named by their digest: verified, resumable, bounded.
#pragma once

#include <filesystem>
#include <functional>
#include <set>
#include <string>

#include "pool_client.h"
#include "unit_refused.h"

namespace agent {

struct StoreLimits {
  uint64_t bytes = 0;         // of the whole folder
  uint64_t disk_reserve = 0;  // left free on the disk
};

// One thread at a time.
class BlobStore {
 public:
  using Cancel = std::function<bool()>;

  // folder: created when needed; everything in it counts towards the limit.
  BlobStore(std::filesystem::path folder, StoreLimits limits);

  // The verified file of a blob, downloaded where needed; what an earlier download left (.part) is gone on with. A file
  // counts as verified once per process. Throws UnitRefused when the blob is not what its name says or there is no
  // room below the limit, Failure(disk) when the disk has no room, and what PoolClient throws.
  std::filesystem::path fetch(PoolClient& client, const protocol::BlobReference& blob, const Cancel& cancelled);
  // Bytes that fetch would download.
  uint64_t missing_bytes(const protocol::BlobReference& blob) const;
  void remove(const protocol::BlobReference& blob);

  // Deletes the longest unused files, but not `keep`, until `bytes` more fit. Throws as fetch.
  void make_room(uint64_t bytes, const std::set<std::filesystem::path>& keep = {});

 private:
  std::filesystem::path file_of(const protocol::BlobReference& blob) const;
  void download(PoolClient& client, const protocol::BlobReference& blob, const Cancel& cancelled);

  const std::filesystem::path folder_;
  const StoreLimits limits_;
  std::set<protocol::Digest> verified_;
};

}  // namespace agent
