// A folder of a test's own, removed at its end.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fakes {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    // In memory where there is such a place: what is kept is synced, which is slow on a busy disk.
    const bool memory = std::filesystem::is_directory("/dev/shm");
    std::string name =
        ((memory ? "/dev/shm" : std::filesystem::temp_directory_path()) / "gradminer-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::filesystem::path path;
};

inline void write_file(const std::filesystem::path& file, std::string_view text) {
  std::ofstream(file, std::ios::binary) << text;
}

}  // namespace fakes
