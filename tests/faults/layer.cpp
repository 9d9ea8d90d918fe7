// Faults at the boundary of the system, for tests: a library for LD_PRELOAD that gives the calls which matter a name,
// ends the process at one of them with SIGKILL, and keeps apart what would survive a power cut. The programs under test
// know nothing of it. faults.py drives it by environment variables:
//
//   FAULTS_ROOT    the data folder: only files below it count
//   FAULTS_TRACE   a file that gets one line for each step when it first happens, and `KILL step` at the end
//   FAULTS_ARM     a file of 4096 bytes: int32 n, int32 full, a step's name ended by NUL. The process dies when it
//                  reaches that step for the n-th time; 0 means never. While full is not 0 the disk is full: writes
//                  below the root fail, and no space is free. It may be written at any time.
//   FAULTS_DISK    a folder that gets what is durable: `content/INODE` of a file and `names/INODE` of a folder, as they
//                  were at their last sync (power.py throws the rest away)
//   FAULTS_NO_SYNC a name like `fsync pools/*/outbox`: this sync makes nothing durable
//
// A step is `before CALL` or `after CALL`. CALL is fsync, rename or unlink with a path below the root, in which
// whatever changes from run to run is `*` or N; `commit` with the two tables that the transaction wrote first, which
// tell what it is for, a step for each savepoint where it has some; `send` and `receive` with the HTTP request or the
// answer to it, seen where TLS takes and gives the plain text.
#include <dlfcn.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

// The function that the program would have called without this library.
template <class Function>
Function* real(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) {
    std::fprintf(stderr, "faults: no %s\n", name);
    abort();
  }
  return reinterpret_cast<Function*>(found);
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

struct Armed {  // the layout of the file FAULTS_ARM
  std::atomic<int32_t> countdown;
  std::atomic<int32_t> full;
  char step[4088];
};

// What this process was started with. Never destroyed: other threads run until the very end.
struct Layer {
  const std::string root = variable("FAULTS_ROOT"), trace = variable("FAULTS_TRACE"), disk = variable("FAULTS_DISK"),
                    no_sync = variable("FAULTS_NO_SYNC");
  Armed* armed = nullptr;
  std::mutex mutex;
  std::set<std::string> seen;
  std::map<const SSL*, std::string> requests;  // of an agent: the one whose answer each connection waits for
  std::map<const SSL*, std::string> heads;     // of a pool: what each connection received since its last answer
  std::map<sqlite3*, std::vector<std::string>> writes;  // tables of each savepoint of a connection's transaction

  Layer() {
    const std::string file = variable("FAULTS_ARM");
    if (file.empty()) return;
    const int descriptor = open(file.c_str(), O_RDWR | O_CLOEXEC);
    void* memory = mmap(nullptr, sizeof(Armed), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (descriptor < 0 || memory == MAP_FAILED) abort();
    close(descriptor);
    armed = static_cast<Armed*>(memory);
  }
};

Layer& layer() {
  static Layer* the_layer = new Layer;
  return *the_layer;
}

void write_line(const std::string& file, const std::string& line) {
  const int descriptor = open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0 || syscall(SYS_write, descriptor, line.data(), line.size()) < 0) abort();
  close(descriptor);
}

void step(const std::string& name) {
  Layer& l = layer();
  if (l.trace.empty()) return;
  const std::lock_guard lock(l.mutex);
  if (l.seen.insert(name).second) write_line(l.trace, name + "\n");
  if (l.armed == nullptr || l.armed->countdown.load() <= 0 || name != l.armed->step) return;
  if (l.armed->countdown.fetch_sub(1) != 1) return;
  write_line(l.trace, "KILL " + name + "\n");
  kill(getpid(), SIGKILL);
  for (;;) pause();  // the signal takes the other threads first
}

// What a name has in common in all runs: long hexadecimal numbers and a blob's folder are *, other numbers
// (but that of /v1) N.
std::string general(const std::string& name) {
  static const std::vector<std::pair<std::regex, const char*>>* rules =
      new std::vector<std::pair<std::regex, const char*>>{
          {std::regex("[0-9a-f]{12,}"), "*"},
          {std::regex("blobs/[0-9a-f]{2}(/\\*)?$"), "blobs/*"},
          {std::regex("[a-z0-9-]+\\.[0-9]+\\.[te][0-9]+"), "JOB.N.uN"},
          {std::regex("weights/[^/]*\\.safetensors"), "weights/JOB.N.safetensors"},
          {std::regex("jobs/[^/]*"), "jobs/JOB"},
          {std::regex("([^v0-9])[0-9]+"), "$1N"},
      };
  std::string text = name;
  for (const auto& [pattern, replacement] : *rules) text = std::regex_replace(text, pattern, replacement);
  return text;
}

// The class of a path below the root; empty where it is elsewhere.
std::string class_of(const std::string& path) {
  const std::string& root = layer().root;
  if (root.empty() || path.compare(0, root.size(), root) != 0) return "";
  if (path.size() == root.size()) return ".";
  if (path[root.size()] != '/') return "";
  return general(path.substr(root.size())).substr(1);
}

std::string path_of(int descriptor) {
  char link[64], path[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t size = readlink(link, path, sizeof path);
  return size <= 0 || path[0] != '/' ? "" : std::string(path, static_cast<size_t>(size));
}

// A file for as long as it is one: inode numbers are used again, their times of birth are not.
std::string identity(const struct statx& status) {
  char text[80];
  std::snprintf(text, sizeof text, "%llu-%lld.%u", static_cast<unsigned long long>(status.stx_ino),
                static_cast<long long>(status.stx_btime.tv_sec), status.stx_btime.tv_nsec);
  return text;
}

struct statx status_of(int descriptor, const char* path, int flags) {
  struct statx status {};
  if (statx(descriptor, path, flags, STATX_INO | STATX_BTIME | STATX_TYPE, &status) != 0) status.stx_ino = 0;
  if (status.stx_ino != 0 && (status.stx_mask & STATX_BTIME) == 0) {
    std::fprintf(stderr, "faults: this file system keeps no times of birth; use another for $TMPDIR\n");
    abort();
  }
  return status;
}

void store(const std::string& file, const std::string& content) {
  static std::atomic<int> number = 0;
  const std::string making = file + ".making." + std::to_string(getpid()) + "." + std::to_string(number++);
  const int descriptor = open(making.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  size_t written = 0;
  while (descriptor >= 0 && written < content.size()) {
    const long count = syscall(SYS_write, descriptor, content.data() + written, content.size() - written);
    if (count <= 0) abort();
    written += static_cast<size_t>(count);
  }
  if (descriptor < 0 || syscall(SYS_rename, making.c_str(), file.c_str()) != 0) abort();
  close(descriptor);
}

// The content of a file that the program has open; nothing where it was removed meanwhile. It is opened again only
// where the program cannot read: to close it there would end the locks that SQLite has on it.
std::optional<std::string> content_of(int descriptor, const std::string& path) {
  const bool readable = (fcntl(descriptor, F_GETFL) & O_ACCMODE) != O_WRONLY;
  const int from = readable ? descriptor : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (from < 0) return std::nullopt;
  std::string content;
  char buffer[1 << 16];
  for (ssize_t count; (count = pread(from, buffer, sizeof buffer, static_cast<off_t>(content.size()))) > 0;) {
    content.append(buffer, static_cast<size_t>(count));
  }
  if (!readable) close(from);
  return content;
}

// Notes a file's content, or a folder's names with what they mean, as what a power cut leaves.
void make_durable(int descriptor, const std::string& path) {
  const struct statx status = status_of(descriptor, "", AT_EMPTY_PATH);
  const bool folder = S_ISDIR(status.stx_mode);
  std::string content;
  if (folder) {
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      const struct statx child = status_of(AT_FDCWD, entry.path().c_str(), AT_SYMLINK_NOFOLLOW);
      if (child.stx_ino == 0) continue;  // gone meanwhile
      content += identity(child) + (S_ISDIR(child.stx_mode) ? " d " : " f ") + entry.path().filename().string() + "\n";
    }
  } else {
    const std::optional<std::string> found = content_of(descriptor, path);
    if (!found) return;
    content = *found;
  }
  store(layer().disk + (folder ? "/names/" : "/content/") + identity(status), content);
}

int synced(int descriptor, int (*sync)(int)) {
  const std::string path = path_of(descriptor), name = class_of(path);
  if (name.empty()) return sync(descriptor);
  const std::string call = "fsync " + name;
  step("before " + call);
  int result = 0;
  if (layer().disk.empty()) {
    result = sync(descriptor);
  } else if (call != layer().no_sync) {
    make_durable(descriptor, path);
  }
  step("after " + call);
  return result;
}

template <class Call>
int named(const std::string& call, bool counts, Call&& call_it) {
  if (counts) step("before " + call);
  const int result = call_it();
  const int error = errno;
  if (counts && result == 0) step("after " + call);
  errno = error;
  return result;
}

int unlinked(const char* path, int (*remove_it)(const char*)) {
  const std::string name = class_of(path);
  const bool counts = !name.empty() && access(path, F_OK) == 0;
  return named("unlink " + name, counts, [&] { return remove_it(path); });
}

// "POST /v1/leases" from the head of a request; empty where these bytes begin none.
std::string request_in(const void* bytes, size_t size) {
  const std::string text(static_cast<const char*>(bytes), std::min<size_t>(size, 400));
  static const std::regex* head = new std::regex("^(GET|PUT|POST) (/[^ ]*) HTTP/1\\.1\r\n");
  std::smatch match;
  if (!std::regex_search(text, match, *head)) return "";
  return match[1].str() + " " + general(match[2].str());
}

// The same of what a pool receives in pieces; once for each request.
std::string request_received(const SSL* ssl, const void* bytes, size_t size) {
  const std::lock_guard lock(layer().mutex);
  std::string& head = layer().heads[ssl];
  if (!request_in(head.data(), head.size()).empty() || head.size() > 4000) return "";
  head.append(static_cast<const char*>(bytes), size);
  return request_in(head.data(), head.size());
}

bool disk_is_full() { return layer().armed != nullptr && layer().armed->full.load() != 0; }

template <class Write>
ssize_t written(int descriptor, Write&& write_it) {
  if (!disk_is_full() || class_of(path_of(descriptor)).empty()) return write_it();
  errno = ENOSPC;
  return -1;
}

thread_local std::string answer_to_send;  // written into TLS, not yet into the socket

// The table that a statement writes, or `schema`; empty where it writes none, or one that says nothing.
std::string table_of(const std::string& sql) {
  static const std::regex* changes = new std::regex("^\\s*(?:CREATE|ALTER) TABLE\\s");
  static const std::regex* writes = new std::regex("^\\s*(?:INSERT(?: OR \\w+)? INTO|UPDATE|DELETE FROM)\\s+(\\w+)");
  if (std::regex_search(sql, *changes)) return "schema";
  std::smatch match;
  return std::regex_search(sql, match, *writes) && match[1] != "blobs" ? match[1].str() : "";
}

// Notes what a statement does to its connection's transaction. The names of a commit.
std::set<std::string> note_statement(sqlite3_stmt* statement) {
  const bool reads = sqlite3_stmt_readonly(statement) != 0;  // so do BEGIN, COMMIT and SAVEPOINT
  const char* sql = sqlite3_sql(statement);
  const std::string_view text = sql == nullptr ? "" : sql;
  if (reads && !text.starts_with("BEGIN") && !text.starts_with("COMMIT") && !text.starts_with("SAVEPOINT") &&
      !text.starts_with("ROLLBACK TO")) {
    return {};
  }
  const std::lock_guard lock(layer().mutex);
  std::vector<std::string>& writes = layer().writes[sqlite3_db_handle(statement)];
  if (text.starts_with("COMMIT")) {
    std::set<std::string> names(writes.begin(), writes.end());
    names.erase("");
    writes.clear();
    return names;
  }
  if (text.starts_with("BEGIN")) writes.clear();
  if (text.starts_with("ROLLBACK TO") && !writes.empty()) writes.pop_back();
  if (reads || writes.empty()) writes.emplace_back();
  std::string& tables = writes.back();
  const std::string table = reads ? "" : table_of(std::string(text));
  if (table.empty() || (" " + tables + " ").find(" " + table + " ") != std::string::npos) return {};
  if (std::count(tables.begin(), tables.end(), ' ') < 1) tables += (tables.empty() ? "" : " ") + table;
  return {};
}

template <class Send>
ssize_t sent(Send&& send_it) {
  const ssize_t result = send_it();
  if (result > 0 && !answer_to_send.empty()) {
    const std::string name = std::exchange(answer_to_send, "");
    step("after send " + name);
  }
  return result;
}

}  // namespace

extern "C" {

int fsync(int descriptor) {
  static auto* const next = real<int(int)>("fsync");
  return synced(descriptor, next);
}

int fdatasync(int descriptor) {
  static auto* const next = real<int(int)>("fdatasync");
  return synced(descriptor, next);
}

ssize_t write(int descriptor, const void* bytes, size_t size) {
  static auto* const next = real<ssize_t(int, const void*, size_t)>("write");
  return written(descriptor, [&] { return next(descriptor, bytes, size); });
}

ssize_t pwrite(int descriptor, const void* bytes, size_t size, off_t offset) {
  static auto* const next = real<ssize_t(int, const void*, size_t, off_t)>("pwrite");
  return written(descriptor, [&] { return next(descriptor, bytes, size, offset); });
}

ssize_t pwrite64(int descriptor, const void* bytes, size_t size, off64_t offset) {
  static auto* const next = real<ssize_t(int, const void*, size_t, off64_t)>("pwrite64");
  return written(descriptor, [&] { return next(descriptor, bytes, size, offset); });
}

int statvfs(const char* path, struct statvfs* status) noexcept {
  static auto* const next = real<int(const char*, struct statvfs*)>("statvfs");
  const int result = next(path, status);
  if (result == 0 && disk_is_full() && !class_of(path).empty()) status->f_bfree = status->f_bavail = 0;
  return result;
}

int rename(const char* from, const char* to) noexcept {
  static auto* const next = real<int(const char*, const char*)>("rename");
  const std::string name = class_of(to);
  return named("rename to " + name, !name.empty(), [&] { return next(from, to); });
}

int unlink(const char* path) noexcept {
  static auto* const next = real<int(const char*)>("unlink");
  return unlinked(path, next);
}

int remove(const char* path) noexcept {
  static auto* const next = real<int(const char*)>("remove");
  return unlinked(path, next);
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  static auto* const next = real<int(int, const char*, int)>("unlinkat");
  const std::string base = path[0] == '/' ? "" : folder == AT_FDCWD ? "" : path_of(folder) + "/";
  const std::string name = class_of(base + path);
  return named("unlink " + name, !name.empty(), [&] { return next(folder, path, flags); });
}

// sqlite3_exec calls it, too.
int sqlite3_step(sqlite3_stmt* statement) {
  static auto* const next = real<int(sqlite3_stmt*)>("sqlite3_step");
  const std::set<std::string> commits = note_statement(statement);
  for (const std::string& tables : commits) step("before commit " + tables);
  const int result = next(statement);
  if (result != SQLITE_DONE) return result;
  for (const std::string& tables : commits) step("after commit " + tables);
  return result;
}

int SSL_write(SSL* ssl, const void* bytes, int size) {
  static auto* const next = real<int(SSL*, const void*, int)>("SSL_write");
  if (const std::string request = request_in(bytes, static_cast<size_t>(size)); !request.empty()) {  // an agent's
    step("before send " + request);
    const int result = next(ssl, bytes, size);
    if (result > 0) {
      step("after send " + request);
      const std::lock_guard lock(layer().mutex);
      layer().requests[ssl] = "answer to " + request;
    }
    return result;
  }
  const std::string_view text(static_cast<const char*>(bytes), static_cast<size_t>(size));
  if (text.starts_with("HTTP/1.1 ") && !text.starts_with("HTTP/1.1 100")) {  // a pool's
    std::string head;
    {
      const std::lock_guard lock(layer().mutex);
      head = std::exchange(layer().heads[ssl], "");
    }
    answer_to_send = "answer to " + request_in(head.data(), head.size());
    step("before send " + answer_to_send);
  }
  return next(ssl, bytes, size);
}

int SSL_read(SSL* ssl, void* bytes, int size) {
  static auto* const next = real<int(SSL*, void*, int)>("SSL_read");
  std::string awaited;
  {
    const std::lock_guard lock(layer().mutex);
    if (const auto found = layer().requests.find(ssl); found != layer().requests.end()) awaited = found->second;
  }
  if (!awaited.empty()) step("before receive " + awaited);
  const int result = next(ssl, bytes, size);
  if (result <= 0) return result;
  if (!awaited.empty()) {
    step("after receive " + awaited);
    const std::lock_guard lock(layer().mutex);
    layer().requests.erase(ssl);
  } else if (const std::string request = request_received(ssl, bytes, static_cast<size_t>(result)); !request.empty()) {
    step("after receive " + request);
  }
  return result;
}

ssize_t sendmsg(int socket, const struct msghdr* message, int flags) {
  static auto* const next = real<ssize_t(int, const struct msghdr*, int)>("sendmsg");
  return sent([&] { return next(socket, message, flags); });
}

ssize_t send(int socket, const void* bytes, size_t size, int flags) {
  static auto* const next = real<ssize_t(int, const void*, size_t, int)>("send");
  return sent([&] { return next(socket, bytes, size, flags); });
}

// Of a pool: an agent's library calls recv.
ssize_t recvmsg(int socket, struct msghdr* message, int flags) {
  static auto* const next = real<ssize_t(int, struct msghdr*, int)>("recvmsg");
  char byte;
  if (::recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) step("before receive");
  return next(socket, message, flags);
}

}  // extern "C"
