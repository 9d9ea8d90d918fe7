#include "block.h"

#include <bit>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include "cpu/float_environment.h"
#include "device.h"
#include "fibre.h"
#include "launcher.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simt {

constexpr size_t guard_bytes = 4096;  // beyond the dynamic shared memory

}  // namespace simt

// cuda/dynamic_shared.cuh declares it.
alignas(16) unsigned char dynamic_shared[simt::maximum_shared_bytes + simt::guard_bytes];

namespace simt {
namespace {

constexpr unsigned char nan_byte = 0xff;  // four of them are a NaN, and -1
constexpr unsigned char guard_byte = 0xa5;

// Whether each thread keeps a fibre of its own: to the thread sanitizer, fibres are the threads that race.
#if defined(SIMT_THREAD_SANITIZER)
constexpr bool own_fibres = true;
#else
constexpr bool own_fibres = false;
#endif

enum class State { fresh, ready, at_barrier, in_warp_operation, ended };
enum class Operation { barrier, ballot, shuffle, matrices, gather };

struct Thread {
  uint3 index;
  std::unique_ptr<Fibre> fibre;  // while it has begun and not ended, or always
  State state;
  // While it waits, in a warp operation the latter too:
  Site site;
  Operation operation;
  uint32_t mask;
  uint64_t value;
  unsigned source;
  Fragments* fragments;
  uint64_t* values;
  uint64_t result;
  std::vector<Copy> copies;
};

bool same(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

std::string text(uint3 p) {
  char all[40];
  std::snprintf(all, sizeof all, "(%u, %u, %u)", p.x, p.y, p.z);
  return all;
}

std::string text(const Thread& thread) {
  const std::string who = "thread " + text(thread.index);
  if (thread.state == State::ended) return who + " has ended";
  const std::string line = std::string(thread.site.file) + ":" + std::to_string(thread.site.line);
  if (thread.state == State::at_barrier) return who + " waits at the barrier " + line;
  char mask[16];
  std::snprintf(mask, sizeof mask, "0x%08x", thread.mask);
  return who + " is in the warp operation " + line + " with the mask " + mask;
}

// Not memset: under the address sanitizer the section has gaps that only this may touch, and to the thread sanitizer
// the memory of a block that ran before was another's.
__attribute__((no_sanitize("address", "undefined"))) void fill(unsigned char* begin, unsigned char* end,
                                                               unsigned char byte) {
  forget_accesses(begin, end);
#if defined(__x86_64__)
  size_t count = static_cast<size_t>(end - begin);
  asm volatile("rep stosb" : "+D"(begin), "+c"(count) : "a"(byte) : "memory");
#else
  for (volatile unsigned char* p = begin; p != end; ++p) *p = byte;
#endif
}

// Runs one block after the other. To the thread sanitizer those of one Block have the same threads, and nothing orders
// them with those of another Block.
class Block {
 public:
  Block(const kernels::cuda::Launch& launch, const Kernel& kernel, bool downward);
  ~Block();

  // Runs the block blockIdx.
  void run();

  // The thread that runs.
  Thread& current() { return *current_; }
  unsigned lane() const { return static_cast<unsigned>(current_ - threads_.data()) % 32; }
  // Lets others run until the thread is ready again.
  void wait(State state, Site site) {
    current_->state = state;
    current_->site = site;
    current_->fibre->leave();
  }

 private:
  size_t in_order(size_t i, size_t count) const { return downward_ ? count - 1 - i : i; }
  void run_warp(size_t first, size_t count);
  void run_thread(Thread& thread);
  bool complete_operations(Thread* warp, size_t count);
  static bool is_complete(const Thread* warp, size_t count, const Thread& caller);
  void complete(Thread* warp, uint32_t mask);
  static void multiply_matrices(const Thread* warp);
  static void gather(const Thread* warp);
  bool pass_barrier();
  void order_before_threads();
  void order_after_threads();
  template <class Which>
  static void order_at_barrier(Thread* first, size_t count, Which which);
  void fill_shared();
  void check_guard() const;
  [[noreturn]] void fail(const std::string& problem) const {
    throw Failure(std::string("kernel ") + launch_.kernel + ", block " + text(blockIdx) + ": " + problem);
  }

  const kernels::cuda::Launch& launch_;
  const Kernel& kernel_;
  const bool downward_;
  std::vector<Thread> threads_;
  Thread* current_ = nullptr;
};

Block* block = nullptr;                    // the one that runs
std::vector<std::unique_ptr<Fibre>> idle;  // the last one is used first: its stack is in the cache

std::unique_ptr<Fibre> take_fibre() {
  if (idle.empty()) return std::make_unique<Fibre>();
  std::unique_ptr<Fibre> fibre = std::move(idle.back());
  idle.pop_back();
  return fibre;
}

Block::Block(const kernels::cuda::Launch& launch, const Kernel& kernel, bool downward)
    : launch_(launch), kernel_(kernel), downward_(downward), threads_(blockDim.x * blockDim.y * blockDim.z) {
  for (size_t i = 0; i < threads_.size(); ++i) {
    const auto n = static_cast<unsigned>(i);
    threads_[i].index = {n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y};
    threads_[i].state = State::ended;
    if (own_fibres) threads_[i].fibre = take_fibre();
  }
  order_before_threads();
}

// Fibres whose threads have not ended are of no more use.
Block::~Block() {
  order_after_threads();
  for (Thread& thread : threads_) {
    if (thread.fibre && thread.state == State::ended) idle.push_back(std::move(thread.fibre));
  }
}

void Block::run() {
  block = this;
  fill_shared();
  for (Thread& thread : threads_) thread.state = State::fresh;
  const size_t warps = (threads_.size() + 31) / 32;
  do {
    for (size_t w = 0; w < warps; ++w) {
      const size_t first = 32 * in_order(w, warps);
      run_warp(first, std::min<size_t>(32, threads_.size() - first));
    }
  } while (pass_barrier());
  check_guard();
}

// To the thread sanitizer a launch comes after all before it.
void Block::order_before_threads() {
  if (!own_fibres) return;
  release(this);
  for (Thread& thread : threads_) thread.fibre->acquire(this);
}
void Block::order_after_threads() {
  if (!own_fibres) return;
  for (Thread& thread : threads_) thread.fibre->release(this);
  acquire(this);
}

// What the threads for which `which` holds have done comes before what any of them does next.
template <class Which>
void Block::order_at_barrier(Thread* first, size_t count, Which which) {
  if (!own_fibres) return;
  for (size_t i = 0; i < count; ++i) {
    if (which(i)) first[i].fibre->release(&first->state);
  }
  for (size_t i = 0; i < count; ++i) {
    if (which(i)) first[i].fibre->acquire(&first->state);
  }
}

// Until every lane has ended or waits at a barrier.
void Block::run_warp(size_t first, size_t count) {
  Thread* warp = threads_.data() + first;
  do {
    for (size_t i = 0; i < count; ++i) {
      Thread& thread = warp[in_order(i, count)];
      if (thread.state == State::fresh || thread.state == State::ready) run_thread(thread);
    }
  } while (complete_operations(warp, count));
}

void Block::run_thread(Thread& thread) {
  current_ = &thread;
  threadIdx = thread.index;
  bool ended;
  if (thread.state == State::ready) {
    ended = thread.fibre->resume();
  } else {
    if (!own_fibres) thread.fibre = take_fibre();
    ended = thread.fibre->start([](void* self) { block->kernel_.call(static_cast<Block*>(self)->launch_.args); }, this);
  }
  if (thread.state == State::in_warp_operation && !(thread.mask >> lane() & 1))
    fail(text(thread) + ", which leaves it out");
  if (!ended) return;
  thread.state = State::ended;
  if (!thread.copies.empty()) fail(text(thread) + " and has not waited for its copies to shared memory");
  if (!own_fibres) idle.push_back(std::move(thread.fibre));
}

// Completes the warp operations whose lanes have all come; false where no lane waits in one.
bool Block::complete_operations(Thread* warp, size_t count) {
  bool completed = false;
  const Thread* waiting = nullptr;
  for (size_t i = 0; i < count; ++i) {
    const Thread& caller = warp[i];
    if (caller.state != State::in_warp_operation) continue;
    if (is_complete(warp, count, caller)) {
      complete(warp, caller.mask);
      completed = true;
    } else {
      waiting = &caller;
    }
  }
  if (completed || !waiting) return completed;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(waiting->mask >> l & 1)) continue;
    if (l >= count) fail(text(*waiting) + ", but the block has no lane " + std::to_string(l) + " in this warp");
    const Thread& other = warp[l];
    if (other.state != State::in_warp_operation || other.mask != waiting->mask ||
        other.operation != waiting->operation || !same(other.site, waiting->site))
      fail(text(*waiting) + ", but " + text(other));
  }
  return false;  // not reached: it would have been complete
}

bool Block::is_complete(const Thread* warp, size_t count, const Thread& caller) {
  if (count < 32 && caller.mask >> count != 0) return false;
  for (unsigned l = 0; l < count; ++l) {
    if (!(caller.mask >> l & 1)) continue;
    const Thread& other = warp[l];
    if (other.state != State::in_warp_operation || other.mask != caller.mask || other.operation != caller.operation ||
        !same(other.site, caller.site))
      return false;
  }
  return true;
}

void Block::complete(Thread* warp, uint32_t mask) {
  const Operation operation = warp[std::countr_zero(mask)].operation;
  // Only __syncwarp orders memory.
  if (operation == Operation::barrier) order_at_barrier(warp, 32, [mask](size_t l) { return (mask >> l & 1) != 0; });
  if (operation == Operation::matrices) multiply_matrices(warp);
  if (operation == Operation::gather) gather(warp);
  uint32_t bits = 0;
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int l = std::countr_zero(rest);
    if (warp[l].value != 0) bits |= 1u << l;
  }
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    Thread& thread = warp[std::countr_zero(rest)];
    if (thread.operation == Operation::shuffle) {
      if (!(mask >> thread.source & 1)) fail(text(thread) + " and reads lane " + std::to_string(thread.source));
      thread.result = warp[thread.source].value;
    } else {
      thread.result = bits;
    }
    thread.state = State::ready;
  }
}

void Block::multiply_matrices(const Thread* warp) {
  Fragments* lanes[32];
  for (size_t l = 0; l < 32; ++l) lanes[l] = warp[l].fragments;
  multiply(lanes);
}

void Block::gather(const Thread* warp) {
  for (size_t l = 0; l < 32; ++l) {
    for (size_t from = 0; from < 32; ++from) warp[l].values[from] = warp[from].value;
  }
}

// Every thread has ended or waits at a barrier. True where all wait, at the same one: they are ready again.
bool Block::pass_barrier() {
  const Thread& one = threads_.front();
  for (const Thread& thread : threads_) {
    const bool alike = thread.state == one.state && (one.state == State::ended || same(thread.site, one.site));
    if (!alike) fail("barrier divergence: " + text(one) + ", " + text(thread));
  }
  if (one.state == State::ended) return false;
  for (Thread& thread : threads_) thread.state = State::ready;
  order_at_barrier(threads_.data(), threads_.size(), [](size_t) { return true; });
  return true;
}

void Block::fill_shared() {
  fill(kernel_.shared_begin, kernel_.shared_end, nan_byte);
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(dynamic_shared, sizeof dynamic_shared);
#endif
  unsigned char* const end = dynamic_shared + launch_.shared_bytes;
  fill(dynamic_shared, end, nan_byte);
  fill(end, end + guard_bytes, guard_byte);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(dynamic_shared + launch_.shared_bytes, sizeof dynamic_shared - launch_.shared_bytes);
#endif
}

void Block::check_guard() const {
#if defined(__SANITIZE_ADDRESS__)
  return;  // which has reported it at once
#endif
  for (size_t i = 0; i < guard_bytes; ++i) {
    if (dynamic_shared[launch_.shared_bytes + i] == guard_byte) continue;
    fail("a write " + std::to_string(i) + " bytes beyond the " + std::to_string(launch_.shared_bytes) +
         " bytes of dynamic shared memory");
  }
}

uint64_t warp_operation(Operation operation, uint32_t mask, uint64_t value, unsigned source, Site site) {
  Thread& thread = block->current();
  thread.operation = operation;
  thread.mask = mask;
  thread.value = value;
  thread.source = source;
  block->wait(State::in_warp_operation, site);
  return thread.result;
}

}  // namespace

#if defined(__x86_64__)
const bool has_fma = __builtin_cpu_supports("fma") != 0;
#endif

unsigned lane() { return block->lane(); }

void barrier(Site site) { block->wait(State::at_barrier, site); }

void warp_barrier(uint32_t mask, Site site) { warp_operation(Operation::barrier, mask, 0, 0, site); }

uint32_t ballot(uint32_t mask, bool predicate, Site site) {
  return static_cast<uint32_t>(warp_operation(Operation::ballot, mask, predicate, 0, site));
}

uint64_t shuffle(uint32_t mask, uint64_t value, unsigned source, Site site) {
  return warp_operation(Operation::shuffle, mask, value, source, site);
}

void multiply_matrices(Fragments& fragments, Site site) {
  block->current().fragments = &fragments;
  warp_operation(Operation::matrices, 0xffffffff, 0, 0, site);
}

void gather(uint64_t value, uint64_t (&values)[32], Site site) {
  block->current().values = values;
  warp_operation(Operation::gather, 0xffffffff, value, 0, site);
}

std::vector<Copy>& copies() { return block->current().copies; }

void run_grid(const kernels::cuda::Launch& launch, const Kernel& kernel, bool downward) {
  const kernels::FloatEnvironment environment;
  gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
  blockDim = {launch.block[0], launch.block[1], launch.block[2]};
  Block first(launch, kernel, downward);
  std::optional<Block> second;
  if (own_fibres) second.emplace(launch, kernel, downward);
  const uint64_t blocks = uint64_t{gridDim.x} * gridDim.y * gridDim.z;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t b = downward ? blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(b % gridDim.x), static_cast<unsigned>(b / gridDim.x % gridDim.y),
                static_cast<unsigned>(b / gridDim.x / gridDim.y)};
    // By the Thue-Morse sequence: whatever the grid, neighbours in each direction are often of different Blocks.
    (own_fibres && std::popcount(b) % 2 == 1 ? *second : first).run();
  }
}

}  // namespace simt
