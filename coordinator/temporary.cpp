#include "temporary.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "errors.h"
#include "protocol/keys.h"

namespace pool {
namespace {

// The open folder where nobody else has its lock, else -1.
int lock(const std::filesystem::path& folder) {
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB) == 0) return descriptor;
  const int reason = errno;
  if (descriptor >= 0) close(descriptor);
  errno = reason;
  return -1;
}

void remove_left_over(const std::filesystem::path& parent) {
  for (const auto& entry : std::filesystem::directory_iterator(parent)) {
    std::error_code ignored;  // it is looked for again at the next opening
    if (entry.is_directory(ignored)) {
      const int descriptor = lock(entry.path());
      if (descriptor < 0) continue;
      std::filesystem::remove_all(entry.path(), ignored);
      close(descriptor);
    } else {  // of version 1 of the store
      std::filesystem::remove(entry.path(), ignored);
    }
  }
}

}  // namespace

TemporaryFolder::TemporaryFolder(const std::filesystem::path& parent) : path_(parent / protocol::random_hex16()) {
  remove_left_over(parent);
  std::error_code error;
  std::filesystem::create_directory(path_, error);
  descriptor_ = error ? -1 : lock(path_);
  if (descriptor_ < 0) {
    throw Failure(ExitCode::store, "cannot use the folder " + path_.string() + ": " +
                                       (error ? error.message() : std::generic_category().message(errno)));
  }
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  close(descriptor_);
}

}  // namespace pool
