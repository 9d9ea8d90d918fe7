#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>

#include "kernels/files.h"

namespace kernels {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const fs::path& file, const char* what) {
  throw std::runtime_error(file.string() + ": " + what + ": " + std::generic_category().message(errno));
}

// A file that vanishes unless it was renamed into place.
class TemporaryFile {
 public:
  explicit TemporaryFile(const fs::path& target) : path_(target) {
    path_ += ".tmp." + std::to_string(::getpid());
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor_ < 0) fail(path_, "cannot be created");
  }
  ~TemporaryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!renamed_) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(const void* data, size_t bytes) {
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t written = ::write(descriptor_, next, bytes);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail(path_, "cannot be written");
      next += written;
      bytes -= static_cast<size_t>(written);
    }
  }

  void rename_to(const fs::path& target) {
    if (::fsync(descriptor_) != 0) fail(path_, "cannot be synced");
    const int closed = ::close(descriptor_);
    descriptor_ = -1;
    if (closed != 0) fail(path_, "cannot be closed");
    if (::rename(path_.c_str(), target.c_str()) != 0) fail(target, "cannot be renamed into place");
    renamed_ = true;
  }

 private:
  fs::path path_;
  int descriptor_ = -1;
  bool renamed_ = false;
};

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail(folder, "cannot be opened");
  const int synced = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  if (synced != 0) fail(folder, "cannot be synced");
}

}  // namespace

std::string safetensors_header(const ModelConfig& config) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};  // transformers refuses a file without it
  for (const Parameter& parameter : parameters_of(config)) {
    const size_t begin = sizeof(float) * parameter.offset, end = begin + sizeof(float) * parameter.count;
    header[parameter.name] = {{"dtype", "F32"}, {"shape", parameter.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xFF);
  return length + text;
}

fs::path replaceable_file(const fs::path& file) {
  const fs::file_status end = fs::status(file);  // throws where links lead round in a circle
  if (fs::exists(end) && !fs::is_regular_file(end)) {
    throw std::runtime_error(file.string() + " is no regular file, and nothing else is replaced");
  }
  fs::path target = file;
  while (fs::is_symlink(target)) target = target.parent_path() / fs::read_symlink(target);
  return target;
}

void write_safetensors(const fs::path& file, const ModelConfig& config, const float* values) {
  const fs::path target = replaceable_file(file);
  const std::string header = safetensors_header(config);
  TemporaryFile temporary(target);
  temporary.write(header.data(), header.size());
  temporary.write(values, sizeof(float) * parameter_count(config));
  temporary.rename_to(target);
  sync_folder(target.has_parent_path() ? target.parent_path() : fs::path("."));
}

}  // namespace kernels
