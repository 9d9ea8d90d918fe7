#include "disk_faults.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <stdexcept>

namespace fakes {
namespace {

enum class Call { other, needs_room, write };  // what a fault can do to it

struct State {
  bool active = false;
  std::string root, where;
  DiskFault fault = DiskFault::none;
  uint64_t left = 0;  // calls until the fault
};

std::mutex mutex;  // of state
State state;
std::atomic<bool> active = false;  // spares everyone else the lock

bool can_meet(DiskFault fault, Call call) {
  switch (fault) {
    case DiskFault::none:
      return false;
    case DiskFault::full:
      return call != Call::other;
    case DiskFault::short_write:
      return call == Call::write;
    default:
      return true;
  }
}

enum class Verdict { passes, halved, fails };

// What happens to one call; errno is set where it fails.
Verdict judge(const char* name, Call call, const std::string& path) {
  const std::lock_guard lock(mutex);
  if (!state.active || !path.starts_with(state.root) || !can_meet(state.fault, call)) return Verdict::passes;
  const bool first = state.where.empty();
  if (first && --state.left > 0) return Verdict::passes;
  if (first) state.where = std::string(name) + " " + path;
  if (!first && (state.fault == DiskFault::error_once || state.fault == DiskFault::short_write)) return Verdict::passes;
  if (first && call == Call::write && state.fault != DiskFault::error_once && state.fault != DiskFault::broken) {
    return Verdict::halved;
  }
  errno = state.fault == DiskFault::full ? ENOSPC : EIO;
  return Verdict::fails;
}

std::string path_of(int descriptor) {
  char link[64], path[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t size = readlink(link, path, sizeof path);
  return size <= 0 ? "" : std::string(path, static_cast<size_t>(size));
}

std::string path_in(int folder, const char* path) {
  return path[0] == '/' || folder == AT_FDCWD ? path : path_of(folder) + "/" + path;
}

template <class Function>
Function* real(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) abort();
  return reinterpret_cast<Function*>(found);
}

// A call that either happens or fails.
template <class Real>
auto whole(const char* name, Call call, const std::string& path, Real&& call_it) {
  return judge(name, call, path) == Verdict::passes ? call_it() : -1;
}

// A write of `size` bytes: call_it(size), or call_it(half of it) but at least one.
template <class Real>
ssize_t written(const char* name, int descriptor, size_t size, Real&& call_it) {
  if (!active) return call_it(size);
  switch (judge(name, Call::write, path_of(descriptor))) {
    case Verdict::passes:
      return call_it(size);
    case Verdict::halved:
      return call_it(size > 1 ? size / 2 : size);
    default:
      return -1;
  }
}

int synced(const char* name, int descriptor, int (*sync)(int)) {
  if (!active) return sync(descriptor);
  return whole(name, Call::needs_room, path_of(descriptor), [] { return 0; });
}

template <class Open>
int opened(int folder, const char* path, int flags, Open&& open_it) {
  if (!active) return open_it();
  const std::string name = path_in(folder, path);
  const bool makes = (flags & O_CREAT) != 0 && access(name.c_str(), F_OK) != 0;
  return whole("open", makes ? Call::needs_room : Call::other, name, open_it);
}

template <class... Arguments, class Real>
int on_path(const char* name, Call call, int folder, const char* path, Real&& call_it) {
  return active ? whole(name, call, path_in(folder, path), call_it) : call_it();
}

}  // namespace

DiskFaults::DiskFaults(const std::filesystem::path& root, DiskFault fault, uint64_t n) {
  const std::lock_guard lock(mutex);
  if (state.active) throw std::logic_error("one disk fails already");
  state = {true, root.string(), "", fault, n};
  active = true;
}

DiskFaults::~DiskFaults() {
  const std::lock_guard lock(mutex);
  state = {};
  active = false;
}

void DiskFaults::lift() {
  const std::lock_guard lock(mutex);
  state.fault = DiskFault::none;
}

bool DiskFaults::happened() const { return !where().empty(); }

std::string DiskFaults::where() const {
  const std::lock_guard lock(mutex);
  return state.where;
}

}  // namespace fakes

// The calls themselves. Each has its 64-bit twin, which libstdc++ and SQLite use.

using namespace fakes;

extern "C" {

#define OPEN(NAME)                                                                           \
  int NAME(const char* path, int flags, ...) {                                               \
    static auto* const next = real<int(const char*, int, ...)>(#NAME);                       \
    va_list more;                                                                            \
    va_start(more, flags);                                                                   \
    const unsigned mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, unsigned) : 0; \
    va_end(more);                                                                            \
    return opened(AT_FDCWD, path, flags, [&] { return next(path, flags, mode); });           \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(NAME)                                                                         \
  int NAME(int folder, const char* path, int flags, ...) {                                   \
    static auto* const next = real<int(int, const char*, int, ...)>(#NAME);                  \
    va_list more;                                                                            \
    va_start(more, flags);                                                                   \
    const unsigned mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, unsigned) : 0; \
    va_end(more);                                                                            \
    return opened(folder, path, flags, [&] { return next(folder, path, flags, mode); });     \
  }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(NAME)                                                                               \
  FILE* NAME(const char* path, const char* mode) {                                                \
    static auto* const next = real<FILE*(const char*, const char*)>(#NAME);                       \
    FILE* file = nullptr;                                                                         \
    const int flags = mode[0] == 'r' ? O_RDONLY : O_CREAT;                                        \
    opened(AT_FDCWD, path, flags, [&] { return (file = next(path, mode)) == nullptr ? -1 : 0; }); \
    return file;                                                                                  \
  }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int descriptor, const void* bytes, size_t size) {
  static auto* const next = real<ssize_t(int, const void*, size_t)>("write");
  return written("write", descriptor, size, [&](size_t part) { return next(descriptor, bytes, part); });
}

ssize_t writev(int descriptor, const iovec* parts, int count) {
  static auto* const next = real<ssize_t(int, const iovec*, int)>("writev");
  return written("write", descriptor, 2, [&](size_t part) { return next(descriptor, parts, part == 2 ? count : 1); });
}

#define PWRITE(NAME)                                                                                               \
  ssize_t NAME(int descriptor, const void* bytes, size_t size, off_t offset) {                                     \
    static auto* const next = real<ssize_t(int, const void*, size_t, off_t)>(#NAME);                               \
    return written("write", descriptor, size, [&](size_t part) { return next(descriptor, bytes, part, offset); }); \
  }
PWRITE(pwrite)
PWRITE(pwrite64)

#define TRUNCATE(NAME)                                                                                  \
  int NAME(int descriptor, off_t size) noexcept {                                                       \
    static auto* const next = real<int(int, off_t)>(#NAME);                                             \
    if (!active) return next(descriptor, size);                                                         \
    return whole("truncate", Call::other, path_of(descriptor), [&] { return next(descriptor, size); }); \
  }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int fsync(int descriptor) {
  static auto* const next = real<int(int)>("fsync");
  return synced("fsync", descriptor, next);
}

int fdatasync(int descriptor) {
  static auto* const next = real<int(int)>("fdatasync");
  return synced("fdatasync", descriptor, next);
}

int rename(const char* from, const char* to) noexcept {
  static auto* const next = real<int(const char*, const char*)>("rename");
  return on_path("rename", Call::needs_room, AT_FDCWD, to, [&] { return next(from, to); });
}

int link(const char* from, const char* to) noexcept {
  static auto* const next = real<int(const char*, const char*)>("link");
  return on_path("link", Call::needs_room, AT_FDCWD, to, [&] { return next(from, to); });
}

int mkdir(const char* path, mode_t mode) noexcept {
  static auto* const next = real<int(const char*, mode_t)>("mkdir");
  return on_path("mkdir", Call::needs_room, AT_FDCWD, path, [&] { return next(path, mode); });
}

int unlink(const char* path) noexcept {
  static auto* const next = real<int(const char*)>("unlink");
  return on_path("unlink", Call::other, AT_FDCWD, path, [&] { return next(path); });
}

int remove(const char* path) noexcept {
  static auto* const next = real<int(const char*)>("remove");
  return on_path("remove", Call::other, AT_FDCWD, path, [&] { return next(path); });
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  static auto* const next = real<int(int, const char*, int)>("unlinkat");
  return on_path("unlink", Call::other, folder, path, [&] { return next(folder, path, flags); });
}

}  // extern "C"
