// Durable files: what is written is on the disk before its name is, and a name never shows half a file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "protocol/digest.h"

namespace pool {

// All of this throws Failure(ExitCode::store) naming the file and the reason ("No space left on device", …).

void sync_file(const std::filesystem::path& file);
void sync_directory(const std::filesystem::path& directory);
// One directory, unless it is there; its name is not synced.
void make_directory(const std::filesystem::path& directory);
// With its parents; the new directories' names are synced.
void make_directories(const std::filesystem::path& directory);
// Renames and syncs the directory of `to`.
void durable_rename(const std::filesystem::path& from, const std::filesystem::path& to);

// A file that is complete and synced but has no lasting name yet; removed with the object unless released.
class StagedFile {
 public:
  StagedFile(std::filesystem::path file, const protocol::Digest& digest, uint64_t bytes);
  ~StagedFile();
  StagedFile(StagedFile&& other) noexcept;
  StagedFile& operator=(StagedFile&&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const protocol::Digest& digest() const { return digest_; }
  uint64_t bytes() const { return bytes_; }
  void release() { path_.clear(); }

 private:
  std::filesystem::path path_;
  protocol::Digest digest_;
  uint64_t bytes_;
};

// Writes a new file from front to end and digests it on the way. Removed unless finished.
class StagedWriter {
 public:
  explicit StagedWriter(std::filesystem::path file);
  ~StagedWriter();
  StagedWriter(const StagedWriter&) = delete;
  StagedWriter& operator=(const StagedWriter&) = delete;

  void write(std::span<const uint8_t> bytes);
  void write(std::span<const float> values);
  StagedFile finish();  // once

 private:
  std::filesystem::path path_;
  int descriptor_;
  uint64_t bytes_ = 0;
  protocol::Sha256 hash_;
};

// A whole file, read through the page cache.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& file);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  // The rest of the file from a byte offset, which must be a multiple of 4, as fp32.
  std::span<const float> floats(size_t offset = 0) const;

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

std::span<const uint8_t> bytes_of(std::span<const float> values);

}  // namespace pool
