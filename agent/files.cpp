#include "files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <system_error>

namespace agent {

Failure disk_failure(const std::string& action, const std::filesystem::path& file, int error) {
  std::string message = "cannot " + action + " " + file.string() + ": " + std::generic_category().message(error);
  if (error == ENOSPC || error == EDQUOT) {
    message = "the disk is full (" + message + "); free some space, or move the data folder with --data";
  } else if (error == EACCES || error == EPERM || error == EROFS) {
    message += "; gradminer must be able to write there, or choose another folder with --data";
  }
  return Failure(Exit::disk, message);
}

Failure system_failure(const std::system_error& error) {
  if (error.code() == std::errc::resource_unavailable_try_again) {  // of std::thread; no disk says so
    return Failure(Exit::input, std::string("the system gives gradminer no thread (") + error.what() +
                                    "); its limit may be ulimit -u, TasksMax or the memory");
  }
  return Failure(Exit::disk,
                 std::string("the disk fails (") + error.what() + "); check it, or choose another with --data");
}

File::File(const std::filesystem::path& file, int flags, unsigned mode)
    : path_(file), descriptor_(::open(file.c_str(), flags | O_CLOEXEC, mode)) {
  if (descriptor_ < 0) throw disk_failure("open", path_, errno);
}

File::~File() { ::close(descriptor_); }

void File::write(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw disk_failure("write", path_, errno);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void File::write(std::string_view text) { write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}); }

void File::read_at(uint64_t offset, std::span<uint8_t> out) const {
  while (!out.empty()) {
    ssize_t n = ::pread(descriptor_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw disk_failure("read", path_, errno);
    if (n == 0) throw Failure(Exit::disk, path_.string() + " is shorter than it should be");
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
}

void File::truncate(uint64_t bytes) {
  if (::ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0 ||
      ::lseek(descriptor_, static_cast<off_t>(bytes), SEEK_SET) < 0) {
    throw disk_failure("cut", path_, errno);
  }
}

void File::sync() {
  if (::fsync(descriptor_) != 0) throw disk_failure("write", path_, errno);
}

void make_folders(const std::filesystem::path& folder) {
  std::error_code error;
  if (folder.empty() || std::filesystem::is_directory(folder, error)) return;
  const std::filesystem::path parent = folder.parent_path();
  if (parent != folder) make_folders(parent);
  std::filesystem::create_directory(folder, error);
  if (error) throw disk_failure("create folder", folder, error.value());
  sync_folder(parent.empty() ? "." : parent);
}

void sync_folder(const std::filesystem::path& folder) { File(folder, O_RDONLY | O_DIRECTORY).sync(); }

void sync_folders(const std::filesystem::path& folder) try {
  sync_folder(folder);
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_directory() && !entry.is_symlink()) sync_folders(entry.path());
  }
} catch (const std::system_error& error) {
  throw system_failure(error);
}

void write_durably(const std::filesystem::path& file, std::string_view text) {
  std::filesystem::path temporary = file;
  temporary += ".tmp";
  {
    File out(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    out.write(text);
    out.sync();
  }
  std::error_code error;
  std::filesystem::rename(temporary, file, error);
  if (error) throw disk_failure("write", file, error.value());
  sync_folder(file.parent_path());
}

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  if (!in.is_open() || in.bad()) throw disk_failure("read", file, errno == 0 ? EIO : errno);
  return text;
}

uint64_t bytes_below(const std::filesystem::path& folder) {
  uint64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;  // files may vanish meanwhile
    if (it->is_regular_file(gone)) {
      uint64_t size = it->file_size(gone);
      if (!gone) bytes += size;
    }
  }
  return bytes;
}

}  // namespace agent
