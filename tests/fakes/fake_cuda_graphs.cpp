// Streams that capture what they are given, and graphs of it.
#include "fake_cuda_state.h"

namespace fakes {
namespace {

enum GraphResult : int { success = 0, invalid_value = 1, invalid_handle = 400, unsupported = 900, invalidated = 901 };

thread_local Stream* captures = nullptr;  // of this thread

// Kept until it is destroyed.
void* keep(Graph graph) {
  auto made = std::make_unique<Graph>(std::move(graph));
  void* const key = made.get();
  const std::lock_guard lock(shared());
  state().graphs[key] = std::move(made);
  ++state().seen.graphs;
  return key;
}

}  // namespace

void queue_work(void* stream, const char* call, std::function<void()> work) {
  Stream& queue = *static_cast<Stream*>(stream);
  if (queue.captured) return queue.captured->push_back(std::move(work));
  if (!ends(call, stream)) return;
  const DeviceMemory::Opened opened(queue.context->memory);
  work();
}

int begin_uncaptured(const char* call) {
  if (const int failed = begin_context(call)) return failed;
  if (captures == nullptr) return success;
  captures->capture_is_valid = false;
  return unsupported;
}

EXPORTED int cuStreamBeginCapture_v2(void* stream, int mode) {
  if (const int failed = begin_uncaptured("cuStreamBeginCapture_v2")) return failed;
  if (!is_current(stream)) return invalid_handle;
  if (mode != 1) return invalid_value;
  captures = static_cast<Stream*>(stream);
  captures->captured.emplace();
  captures->capture_is_valid = true;
  return success;
}

EXPORTED int cuStreamEndCapture(void* stream, void** graph) {
  *graph = nullptr;
  if (captures == nullptr || captures != stream) return invalid_value;
  Graph captured = std::move(*captures->captured);
  const bool valid = captures->capture_is_valid;
  captures->captured.reset();
  captures = nullptr;
  if (const int failed = begin_context("cuStreamEndCapture")) return failed;
  if (!valid) return invalidated;
  *graph = keep(std::move(captured));
  return success;
}

EXPORTED int cuGraphInstantiate_v2(void** made, void* graph, void*, char*, size_t) {
  if (const int failed = begin_uncaptured("cuGraphInstantiate_v2")) return failed;
  *made = keep(*static_cast<Graph*>(graph));
  return success;
}

EXPORTED int cuGraphLaunch(void* made, void* stream) {
  if (const int failed = begin_context("cuGraphLaunch")) return failed;
  if (!is_current(stream)) return invalid_handle;
  queue_work(stream, "cuGraphLaunch", [graph = *static_cast<Graph*>(made)] {
    for (const auto& work : graph) work();
  });
  const std::lock_guard lock(shared());
  ++state().seen.replays;
  return success;
}

static int destroy(const char* call, void* graph) {
  const std::lock_guard lock(shared());
  state().graphs.erase(graph);
  --state().seen.graphs;
  return begin_context(call);
}

EXPORTED int cuGraphDestroy(void* graph) { return destroy("cuGraphDestroy", graph); }

EXPORTED int cuGraphExecDestroy(void* made) { return destroy("cuGraphExecDestroy", made); }

TRAP(cuStreamBeginCapture)
TRAP(cuGraphInstantiate)

}  // namespace fakes
