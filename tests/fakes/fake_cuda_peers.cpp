#include "fake_cuda_peers.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "fake_cuda_state.h"

namespace fakes {
namespace {

Stream& stream_of(void* stream) { return *static_cast<Stream*>(stream); }

std::set<Stream*> streams_of(const Transfers& transfers) {
  std::set<Stream*> streams;
  for (const Transfers::Copy& copy : transfers.copies) {
    streams.insert(&stream_of(copy.from));
    streams.insert(&stream_of(copy.to));
  }
  return streams;
}

void take_out(const std::shared_ptr<Transfers>& transfers) {
  for (Stream* stream : streams_of(*transfers)) std::erase(stream->pending, transfers);
}

void copy(const Transfers& transfers) {
  for (const Transfers::Copy& copy : transfers.copies) {
    const DeviceMemory::Opened from(stream_of(copy.from).context->memory);
    std::vector<char> on_its_way(copy.bytes);
    std::memcpy(on_its_way.data(), copy.source, copy.bytes);
    const DeviceMemory::Opened to(stream_of(copy.to).context->memory);
    std::memcpy(copy.target, on_its_way.data(), copy.bytes);
  }
}

void queue(std::shared_ptr<Transfers> transfers) {
  for (Stream* stream : streams_of(*transfers)) {
    stream->pending.push_back(transfers);
    if (!transfers->never_end) continue;
    ++stream->waiting;
    ++stream->context->waiting;
  }
}

void abort(const std::shared_ptr<Transfers>& transfers) {
  for (Stream* stream : streams_of(*transfers)) {
    if (transfers->never_end && std::ranges::count(stream->pending, transfers) > 0) {
      --stream->waiting;
      --stream->context->waiting;
    }
  }
  take_out(transfers);
}

bool holds(void* stream, const void* memory, size_t bytes) {
  return stream_of(stream).context->memory.holds(static_cast<const char*>(memory), bytes);
}

DeviceMemory& memory_of(int ordinal) { return state().contexts[static_cast<size_t>(ordinal)]->memory; }

}  // namespace

bool Stream::finish() {
  const auto stands = [](const Stream* stream) { return stream->waiting > 0 || stream->context->hangs; };
  while (!stands(this)) {
    if (pending.empty()) return true;
    const std::shared_ptr<Transfers> next = pending.front();
    if (std::ranges::any_of(streams_of(*next), stands)) return false;
    copy(*next);
    take_out(next);
  }
  return false;
}

}  // namespace fakes

extern "C" __attribute__((visibility("default"))) const fakes::FakeCudaPeers fake_cuda_peers{
    [] { return fakes::current_context() == nullptr ? -1 : fakes::current_context()->ordinal; },
    [](void* stream) { return fakes::stream_of(stream).context->ordinal; },
    fakes::holds,
    fakes::queue,
    fakes::abort,
    fakes::queue_work,
    [](int ordinal, size_t bytes) { return fakes::memory_of(ordinal).allocate(bytes); },
    [](int ordinal, char* memory) { fakes::memory_of(ordinal).free(memory); },
};
