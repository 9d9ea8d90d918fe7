#include "fake_nccl.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <thread>

#include "fake_cuda_peers.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

enum Result : int { success = 0, system_error = 2, invalid_argument = 4, remote_error = 6 };

struct Clique {
  std::vector<int> ordinals;
  std::vector<std::shared_ptr<fakes::Transfers>> transfers;  // that may be on their way
  int alive = 0;
  std::atomic<int> told_to_abort = 0;
};

struct Communicator {
  std::shared_ptr<Clique> clique;
  int rank = 0;
  char* memory = nullptr;

  int ordinal() const { return clique->ordinals[static_cast<size_t>(rank)]; }
};

struct Call {
  Communicator* communicator;
  int peer;
  const void* memory;
  size_t count;
  void* stream;
};

// What is told to go wrong.
struct Fault {
  std::string symbol;
  std::atomic<int> after = 0;

  void read(const char* variable) {
    symbol.clear();
    const char* const value = std::getenv(variable);
    std::istringstream fields(value == nullptr ? "" : value);
    std::string number;
    if (std::getline(fields, symbol, ',') && std::getline(fields, number)) after = std::stoi(number);
  }
  bool meets(const char* call) { return symbol == call && after-- <= 0; }
};

Fault fail, hang;
fakes::FakeNccl seen;
std::mutex shared;
thread_local int depth = 0;
thread_local std::vector<Call> sends, receives;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "fake_nccl: %s\n", what.c_str());
  std::abort();
}

template <class T>
T of_driver(const char* symbol) {
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  void* const found = library == nullptr ? nullptr : dlsym(library, symbol);
  if (found == nullptr) die(std::string("the driver of the tests is not open: ") + symbol);
  return reinterpret_cast<T>(found);
}

const fakes::FakeCudaPeers& peers() { return *of_driver<const fakes::FakeCudaPeers*>("fake_cuda_peers"); }

int begin(const char* call) {
  if (hang.meets(call)) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
  return fail.meets(call) ? system_error : success;
}

int add_call(std::vector<Call>& calls, const char* name, const void* memory, size_t count, int type, int peer,
             Communicator* communicator, void* stream) {
  if (const int failed = begin(name)) return failed;
  const Clique& clique = *communicator->clique;
  if (depth == 0) die(std::string(name) + " outside a group");
  if (type != 7) die(std::string(name) + " of something else than floats");
  if (peer < 0 || peer >= static_cast<int>(clique.ordinals.size())) return invalid_argument;
  if (peers().ordinal(stream) != communicator->ordinal()) die(std::string(name) + " in a stream of another card");
  if (count == 0 || !peers().holds(stream, memory, count * sizeof(float))) return invalid_argument;
  calls.push_back({communicator, peer, memory, count, stream});
  return success;
}

// Between the same two ranks the first that is sent is the first that is received.
std::shared_ptr<fakes::Transfers> matched() {
  auto transfers = std::make_shared<fakes::Transfers>();
  for (const Call& send : sends) {
    const auto receive = std::ranges::find_if(receives, [&](const Call& call) {
      return call.communicator->clique == send.communicator->clique && call.communicator->rank == send.peer &&
             call.peer == send.communicator->rank;
    });
    const std::string who = "rank " + std::to_string(send.communicator->rank) + " to " + std::to_string(send.peer);
    if (receive == receives.end()) die("a send without its receive: " + who);
    if (receive->count != send.count) die("a send and a receive of different sizes: " + who);
    transfers->copies.push_back(
        {send.stream, send.memory, receive->stream, const_cast<void*>(receive->memory), send.count * sizeof(float)});
    receives.erase(receive);
  }
  if (!receives.empty()) die("a receive without its send");
  return transfers;
}

// With the lock.
void end(Communicator* communicator) {
  if (communicator->memory != nullptr) peers().give_back(communicator->ordinal(), communicator->memory);
  --communicator->clique->alive;
  --std::atomic_ref(seen.communicators);
  delete communicator;
}

}  // namespace

EXPORTED fakes::FakeNccl& fake_nccl() { return seen; }

EXPORTED int ncclGetVersion(int* version) {
  fail.read("FAKE_NCCL_FAIL");
  hang.read("FAKE_NCCL_HANG");
  const char* const given = std::getenv("FAKE_NCCL_VERSION");
  *version = given == nullptr || *given == 0 ? 22105 : std::stoi(given);
  return begin("ncclGetVersion");
}

EXPORTED const char* ncclGetErrorString(int result) {
  return result == system_error ? "unhandled system error" : result == remote_error ? "remote process exited" : nullptr;
}

EXPORTED int ncclCommInitAll(Communicator** made, int count, const int* ordinals) {
  if (const int failed = begin("ncclCommInitAll")) return failed;
  int cards = 0;
  of_driver<int (*)(int*)>("cuDeviceGetCount")(&cards);
  const std::set<int> different(ordinals, ordinals + count);
  if (static_cast<int>(different.size()) != count) die("a card with two ranks");
  if (*different.begin() < 0 || *different.rbegin() >= cards) return invalid_argument;
  if (!different.contains(peers().current_ordinal())) die("the thread's context is none of the cards'");
  const auto clique = std::make_shared<Clique>();
  clique->ordinals.assign(ordinals, ordinals + count);
  clique->alive = count;
  const char* const bytes = std::getenv("FAKE_NCCL_BYTES");
  for (int rank = 0; rank < count; ++rank) {
    made[rank] = new Communicator{clique, rank};
    if (bytes != nullptr) made[rank]->memory = peers().take(ordinals[rank], std::stoul(bytes));
  }
  const std::lock_guard lock(shared);
  seen.ordinals = clique->ordinals;
  std::atomic_ref(seen.communicators) += count;
  ++seen.cliques;
  return success;
}

EXPORTED int ncclGroupStart() {
  ++depth;
  return begin("ncclGroupStart");
}

EXPORTED int ncclSend(const void* memory, size_t count, int type, int peer, Communicator* communicator, void* stream) {
  return add_call(sends, "ncclSend", memory, count, type, peer, communicator, stream);
}

EXPORTED int ncclRecv(void* memory, size_t count, int type, int peer, Communicator* communicator, void* stream) {
  return add_call(receives, "ncclRecv", memory, count, type, peer, communicator, stream);
}

EXPORTED int ncclGroupEnd() {
  if (const int failed = begin("ncclGroupEnd")) return failed;
  if (depth == 0) die("ncclGroupEnd without ncclGroupStart");
  if (--depth > 0 || (sends.empty() && receives.empty())) return success;
  const std::shared_ptr<fakes::Transfers> transfers = matched();
  const std::shared_ptr<Clique> clique = sends.front().communicator->clique;
  transfers->never_end = hang.meets("transfer");
  if (fail.meets("transfer")) transfers->copies.erase(transfers->copies.begin());
  sends.clear();
  clique->transfers.push_back(transfers);
  peers().queue(transfers);
  const std::lock_guard lock(shared);
  ++seen.groups;
  seen.transfers += transfers->copies.size();
  for (const auto& copy : transfers->copies) seen.bytes += copy.bytes;
  return success;
}

EXPORTED int ncclCommGetAsyncError(Communicator*, int* state) {
  *state = begin("ncclCommGetAsyncError") == success ? success : remote_error;
  return success;
}

EXPORTED int ncclCommDestroy(Communicator* communicator) {
  if (const int failed = begin("ncclCommDestroy")) return failed;
  for (const auto& transfers : communicator->clique->transfers) {
    if (transfers->never_end) die("ncclCommDestroy never returns: transfers are on their way");
  }
  const std::lock_guard lock(shared);
  if (communicator->clique->alive == 1) ++seen.destroyed;
  end(communicator);
  return success;
}

EXPORTED int ncclCommAbort(Communicator* communicator) {
  if (const int failed = begin("ncclCommAbort")) return failed;
  if (peers().current_ordinal() != communicator->ordinal()) die("ncclCommAbort without the context of its card");
  Clique& clique = *communicator->clique;
  ++clique.told_to_abort;
  while (clique.told_to_abort < static_cast<int>(clique.ordinals.size())) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const std::lock_guard lock(shared);
  for (const auto& transfers : clique.transfers) peers().abort(transfers);
  if (clique.alive == 1) ++std::atomic_ref(seen.aborted);
  end(communicator);
  return success;
}
