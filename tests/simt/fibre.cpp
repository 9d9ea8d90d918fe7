#include "fibre.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <system_error>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(SIMT_THREAD_SANITIZER)
#include <sanitizer/tsan_interface.h>
// Of the sanitizer's interface for the heap of a virtual machine (compiler-rt/lib/tsan/rtl/tsan_interface_java.h),
// whose header is not installed: new memory there, in steps of 8 bytes, has no past.
extern "C" {
void __tsan_java_init(uintptr_t heap_begin, uintptr_t heap_bytes);
void __tsan_java_alloc(uintptr_t begin, uintptr_t bytes);
void __tsan_java_free(uintptr_t begin, uintptr_t bytes);
// The linker's names for the ends of this program or library.
[[gnu::visibility("hidden")]] extern const char __ehdr_start[], _end[];
}
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace simt {
namespace {

// Optimised kernels need a few hundred bytes, instrumented ones much more. Pages that nobody touches cost nothing.
constexpr size_t stack_bytes = 256 * 1024;

// A point of execution that can be left and entered again.
#if defined(__x86_64__)

// Saves what a function must preserve on the stack, notes the stack in *from, and goes on at `to`.
extern "C" void simt_switch_stacks(void** from, void* to);
asm(R"(
.text
.type simt_switch_stacks, @function
simt_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stacks, . - simt_switch_stacks
)");

class Point {
 public:
  void set(char* stack, void (*entry)()) {
    void** top = reinterpret_cast<void**>(stack + stack_bytes);
    *--top = nullptr;  // the entry finds the stack as after a call
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    stack_ = top;
  }
  void go_to(Point& other) { simt_switch_stacks(&stack_, other.stack_); }

 private:
  void* stack_ = nullptr;
};

#else  // does the same, at two system calls a switch

class Point {
 public:
  void set(char* stack, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = stack_bytes;
    makecontext(&context_, entry, 0);
  }
  void go_to(Point& other) { swapcontext(&context_, &other.context_); }

 private:
  ucontext_t context_;
};

#endif

}  // namespace

struct Fibre::State {
  size_t guard_bytes = 0;  // below the stack: overflowing it ends the program
  char* memory = nullptr;
  Point inside, outside;
  void (*job)(void*) = nullptr;
  void* argument = nullptr;
  bool ended = false;
#if defined(__SANITIZE_ADDRESS__)
  void* saved_inside = nullptr;
  void* saved_outside = nullptr;
  const void* outside_stack = nullptr;
  size_t outside_bytes = 0;
#endif
#if defined(SIMT_THREAD_SANITIZER)
  void* sanitizer_inside = __tsan_create_fiber(0);
  void* sanitizer_outside = nullptr;
#endif

  static thread_local State* starting;

  char* stack() { return memory + guard_bytes; }

  void enter() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&saved_outside, stack(), stack_bytes);
#endif
#if defined(SIMT_THREAD_SANITIZER)
    sanitizer_outside = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(sanitizer_inside, __tsan_switch_to_fiber_no_sync);
#endif
    outside.go_to(inside);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(saved_outside, nullptr, nullptr);
#endif
  }

  void leave() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&saved_inside, outside_stack, outside_bytes);
#endif
#if defined(SIMT_THREAD_SANITIZER)
    __tsan_switch_to_fiber(sanitizer_outside, __tsan_switch_to_fiber_no_sync);
#endif
    inside.go_to(outside);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(saved_inside, &outside_stack, &outside_bytes);
#endif
  }

  // What the fibre does all its life: one job after the other.
  static void live() {
    State& state = *starting;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &state.outside_stack, &state.outside_bytes);
#endif
    for (;;) {
      state.job(state.argument);
      state.ended = true;
      state.leave();
    }
  }
};

thread_local Fibre::State* Fibre::State::starting = nullptr;

Fibre::Fibre() : state_(std::make_unique<State>()) {
  state_->guard_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, state_->guard_bytes + stack_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "a fibre's stack");
  state_->memory = static_cast<char*>(memory);
  if (mprotect(memory, state_->guard_bytes, PROT_NONE) != 0)
    throw std::system_error(errno, std::generic_category(), "the guard of a fibre's stack");
  state_->inside.set(state_->stack(), State::live);
}

Fibre::~Fibre() {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(state_->stack(), stack_bytes);
#endif
#if defined(SIMT_THREAD_SANITIZER)
  __tsan_destroy_fiber(state_->sanitizer_inside);
#endif
  munmap(state_->memory, state_->guard_bytes + stack_bytes);
}

bool Fibre::start(void (*job)(void*), void* argument) {
  state_->job = job;
  state_->argument = argument;
  return resume();
}

bool Fibre::resume() {
  state_->ended = false;
  State::starting = state_.get();
  state_->enter();
  return state_->ended;
}

void Fibre::leave() { state_->leave(); }

#if defined(SIMT_THREAD_SANITIZER)
void Fibre::release(void* tag) {
  void* caller = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(state_->sanitizer_inside, __tsan_switch_to_fiber_no_sync);
  __tsan_release(tag);
  __tsan_switch_to_fiber(caller, __tsan_switch_to_fiber_no_sync);
}
void Fibre::acquire(void* tag) {
  void* caller = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(state_->sanitizer_inside, __tsan_switch_to_fiber_no_sync);
  __tsan_acquire(tag);
  __tsan_switch_to_fiber(caller, __tsan_switch_to_fiber_no_sync);
}
void release(void* tag) { __tsan_release(tag); }
void acquire(void* tag) { __tsan_acquire(tag); }
void forget_accesses(const void* begin, const void* end) {
  constexpr uintptr_t step = 8;
  const auto bytes_between = [](uintptr_t first, const void* last) {
    return (reinterpret_cast<uintptr_t>(last) - first + step - 1) / step * step;
  };
  static const uintptr_t heap = reinterpret_cast<uintptr_t>(__ehdr_start);
  static const bool initialised = (__tsan_java_init(heap, bytes_between(heap, _end)), true);
  static_cast<void>(initialised);
  const uintptr_t first = reinterpret_cast<uintptr_t>(begin) / step * step;
  const uintptr_t bytes = bytes_between(first, end);
  if (bytes == 0) return;
  __tsan_java_alloc(first, bytes);
  __tsan_java_free(first, bytes);
}
#else
void Fibre::release(void*) {}
void Fibre::acquire(void*) {}
void release(void*) {}
void acquire(void*) {}
void forget_accesses(const void*, const void*) {}
#endif

}  // namespace simt
