// A process's own place for files that are being written.
#pragma once

#include <filesystem>

namespace pool {

// A folder in `parent` that nobody else uses; it goes with the object. The kernel forgets its lock with the process,
// however that ends, so what has no lock is left over.
class TemporaryFolder {
 public:
  // Removes what processes that are gone have left in `parent`. One process at a time: hold the folder's opening lock.
  // Throws Failure(store).
  explicit TemporaryFolder(const std::filesystem::path& parent);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace pool
