#include "files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "errors.h"

namespace pool {
namespace {

[[noreturn]] void fail(const char* what, const std::filesystem::path& file) {
  throw Failure(ExitCode::store,
                std::string(what) + " " + file.string() + ": " + std::generic_category().message(errno));
}

class Descriptor {
 public:
  Descriptor(const std::filesystem::path& file, int flags) : value(open(file.c_str(), flags | O_CLOEXEC)) {
    if (value < 0) fail("cannot open", file);
  }
  ~Descriptor() { close(value); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int value;
};

void sync_path(const std::filesystem::path& path, int flags) {
  Descriptor descriptor(path, flags);
  if (fsync(descriptor.value) != 0) fail("cannot sync", path);
}

}  // namespace

void sync_file(const std::filesystem::path& file) { sync_path(file, O_RDONLY); }
void sync_directory(const std::filesystem::path& directory) { sync_path(directory, O_RDONLY | O_DIRECTORY); }

void make_directory(const std::filesystem::path& directory) {
  if (mkdir(directory.c_str(), 0777) != 0 && errno != EEXIST) fail("cannot make the folder", directory);
}

void make_directories(const std::filesystem::path& directory) {
  std::error_code error;
  if (directory.empty() || std::filesystem::is_directory(directory, error)) return;
  const std::filesystem::path parent = directory.parent_path();
  if (parent != directory) make_directories(parent);
  make_directory(directory);
  sync_directory(parent.empty() ? "." : parent);
}

void durable_rename(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (rename(from.c_str(), to.c_str()) != 0) fail("cannot rename to", to);
  sync_directory(to.parent_path());
}

StagedFile::StagedFile(std::filesystem::path file, const protocol::Digest& digest, uint64_t bytes)
    : path_(std::move(file)), digest_(digest), bytes_(bytes) {}
StagedFile::~StagedFile() {
  if (!path_.empty()) unlink(path_.c_str());
}
StagedFile::StagedFile(StagedFile&& other) noexcept
    : path_(std::exchange(other.path_, {})), digest_(other.digest_), bytes_(other.bytes_) {}

StagedWriter::StagedWriter(std::filesystem::path file)
    : path_(std::move(file)), descriptor_(open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {
  if (descriptor_ < 0) fail("cannot create", path_);
}
StagedWriter::~StagedWriter() {
  if (descriptor_ >= 0) {
    close(descriptor_);
    unlink(path_.c_str());
  }
}

void StagedWriter::write(std::span<const uint8_t> bytes) {
  hash_.update(bytes);
  bytes_ += bytes.size();
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write", path_);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}
void StagedWriter::write(std::span<const float> values) { write(bytes_of(values)); }

StagedFile StagedWriter::finish() {
  if (fsync(descriptor_) != 0) fail("cannot sync", path_);
  close(std::exchange(descriptor_, -1));
  return StagedFile(path_, hash_.finish(), bytes_);
}

MappedFile::MappedFile(const std::filesystem::path& file) {
  Descriptor descriptor(file, O_RDONLY);
  struct stat status {};
  if (fstat(descriptor.value, &status) != 0) fail("cannot read", file);
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* data = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor.value, 0);
  if (data == MAP_FAILED) fail("cannot map", file);
  data_ = static_cast<const uint8_t*>(data);
}
MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<uint8_t*>(data_), size_);
}
MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

std::span<const float> MappedFile::floats(size_t offset) const {
  return {reinterpret_cast<const float*>(data_ + offset), (size_ - offset) / sizeof(float)};
}

std::span<const uint8_t> bytes_of(std::span<const float> values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()};
}

}  // namespace pool
