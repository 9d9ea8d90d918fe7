// Files that survive a crash, and errors of the disk for a person.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "exit.h"

namespace agent {

// A Failure(disk) from errno: "cannot ACTION FILE: reason", with advice where the disk is full.
Failure disk_failure(const std::string& action, const std::filesystem::path& file, int error);
// What the system refuses: a thread, which is a Failure(input) as where the engine lacks one; else the disk's, as
// std::filesystem throws it, which names the file.
Failure system_failure(const std::system_error& error);

// An open file descriptor, closed at the end.
class File {
 public:
  // Throws Failure(disk).
  File(const std::filesystem::path& file, int flags, unsigned mode = 0644);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void write(std::span<const uint8_t> bytes);
  void write(std::string_view text);
  // Reads exactly out.size() bytes at `offset`; throws Failure(disk) also at the end of the file.
  void read_at(uint64_t offset, std::span<uint8_t> out) const;
  void truncate(uint64_t bytes);
  void sync();
  int descriptor() const { return descriptor_; }

 private:
  std::filesystem::path path_;
  int descriptor_;
};

// With its parents; the new folders' names are synced.
void make_folders(const std::filesystem::path& folder);
void sync_folder(const std::filesystem::path& folder);
// Also all folders below.
void sync_folders(const std::filesystem::path& folder);
// Writes FILE.tmp, syncs it, renames it to FILE and syncs the folder.
void write_durably(const std::filesystem::path& file, std::string_view text);
std::string read_text(const std::filesystem::path& file);
// Bytes of all regular files below a folder; 0 where there is none.
uint64_t bytes_below(const std::filesystem::path& folder);

}  // namespace agent
