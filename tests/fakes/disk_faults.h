// A disk that fails in this very process: disk_faults.cpp, linked into a test, stands before the C library's calls that
// open, write, sync, rename and make files. Programs, libstdc++ and SQLite reach it without knowing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace fakes {

enum class DiskFault {
  none,         // calls are only counted
  full,         // from the n-th call that needs room: half of a write is done, then ENOSPC until lifted
  broken,       // from the n-th call: EIO until lifted
  error_once,   // the n-th call: EIO
  short_write,  // the n-th write does half
};

// What happens to the calls on files below `root` while the object lives; one at a time. Thread-safe. Meanwhile a sync
// that does not fail does nothing, so that tests do not wait for the disk.
class DiskFaults {
 public:
  // The n-th call from now on that the fault can meet, counted from 1, meets it.
  explicit DiskFaults(const std::filesystem::path& root, DiskFault fault = DiskFault::none, uint64_t n = 0);
  ~DiskFaults();
  DiskFaults(const DiskFaults&) = delete;
  DiskFaults& operator=(const DiskFaults&) = delete;

  void lift();                // the disk works again
  bool happened() const;      // some call met the fault
  std::string where() const;  // "write /data/outbox/…/result.blob" of the first that did
};

}  // namespace fakes
